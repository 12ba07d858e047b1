"""The benchmark of repeated runs runs and measures what it says; how fast it is no test asserts."""

from __future__ import annotations

import json

import pytest

from semscale.bench import second_run


def check(result: dict[str, object], printed: str, trials: int) -> None:
    assert json.loads(printed.rstrip().rpartition("\n")[2]) == result
    assert result["trials"] == trials
    first, repeats = result["first"], result["repeats"]
    assert isinstance(first, dict)
    assert isinstance(repeats, list)
    assert first["sent"] > 0
    assert all(again["sent"] == 0 and again["trials"] == trials for again in repeats)
    assert all(0 < again["ray_start"] < again["seconds"] for again in repeats)


@pytest.mark.benchmark
def test_the_quick_benchmark_prints_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    result = second_run.main(["--quick"])
    check(result, capsys.readouterr().out, trials=4)


@pytest.mark.benchmark
def test_the_full_benchmark_prints_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    result = second_run.main([])
    printed = capsys.readouterr().out
    check(result, printed, trials=24)
    with capsys.disabled():
        print(f"\n{printed}")
