"""The benchmark of trials runs and measures what it says; how fast it is no test asserts."""

from __future__ import annotations

import json

import pytest

from semscale.bench import trials


def check(result: dict[str, object], printed: str) -> None:
    assert json.loads(printed.rstrip().rpartition("\n")[2]) == result
    low, middle, high = (result[name] for name in ("ms_per_trial_low", "ms_per_trial", "ms_per_trial_high"))
    assert isinstance(low, float)
    assert isinstance(middle, float)
    assert isinstance(high, float)
    assert low <= middle <= high


def test_the_quick_benchmark_prints_its_table(ray_session: None, capsys: pytest.CaptureFixture[str]) -> None:
    result = trials.main(["--quick"])
    assert result["sizes"] == [6, 18]
    check(result, capsys.readouterr().out)


@pytest.mark.benchmark
def test_the_full_benchmark_prints_its_table(ray_session: None, capsys: pytest.CaptureFixture[str]) -> None:
    result = trials.main([])
    assert result["sizes"] == [24, 324]
    printed = capsys.readouterr().out
    check(result, printed)
    with capsys.disabled():
        print(f"\n{printed}")
