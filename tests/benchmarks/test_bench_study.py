"""The study benchmark runs and measures what it says; how fast it is no test asserts."""

from __future__ import annotations

import json

import pytest

from semscale.bench import study


def check(result: dict[str, object], printed: str, images: int) -> None:
    table, _, data = printed.rstrip().rpartition("\n")
    assert json.loads(data) == result
    assert result["images"] == images
    assert set(result["seconds"]) == {"encode once", "semscale", "every step"}
    assert {"encoding", "scoring", "trials", "concluding"} <= set(result["stages"][0])
    assert "times that of encoding every step" in table


def test_the_quick_benchmark_prints_its_table(ray_session: None, capsys: pytest.CaptureFixture[str]) -> None:
    result = study.main(["--quick"])
    assert result["extrapolated"]
    check(result, capsys.readouterr().out, 150)


@pytest.mark.benchmark
def test_the_full_benchmark_prints_its_table(ray_session: None, capsys: pytest.CaptureFixture[str]) -> None:
    result = study.main([])
    printed = capsys.readouterr().out
    assert not result["extrapolated"]
    check(result, printed, 6097)
    with capsys.disabled():
        print(f"\n{printed}")
