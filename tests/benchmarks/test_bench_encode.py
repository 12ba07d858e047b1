"""The encoding benchmark runs and measures what it says; how fast it is no test asserts."""

from __future__ import annotations

import json

import bench_encode
import pytest


def check(result: dict[str, object], printed: str) -> None:
    assert json.loads(printed.rstrip().rpartition("\n")[2]) == result
    rows = result["rows"]
    assert isinstance(rows, list)
    assert [row["way"] for row in rows] == ["bare model, 1 thread", "bare client", "semscale", "semscale again"]
    assert all(row["ratio_low"] <= row["ratio"] <= row["ratio_high"] for row in rows)
    assert rows[1]["ratio"] == 1.0


def test_the_quick_benchmark_prints_its_table(ray_session: None, capsys: pytest.CaptureFixture[str]) -> None:
    result = bench_encode.main(["--quick", "--rounds", "1"])
    assert result["images"] == 200
    check(result, capsys.readouterr().out)


@pytest.mark.benchmark
def test_the_full_benchmark_prints_its_table(ray_session: None, capsys: pytest.CaptureFixture[str]) -> None:
    result = bench_encode.main([])
    printed = capsys.readouterr().out
    check(result, printed)
    with capsys.disabled():
        print(f"\n{printed}")
