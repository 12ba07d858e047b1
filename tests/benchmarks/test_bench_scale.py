"""The scale benchmark runs and measures what it says; how fast it is no test asserts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from semscale.bench import scale


def test_servers_that_wait_take_part_in_a_real_encoding(ray_session: None, tmp_path: Path) -> None:
    with scale.waiting_servers([400.0, None], tmp_path / "log") as urls:
        found = scale.encode(urls, 512, tmp_path / "store")
    # it never gives more than its rate, however many requests are on their way at once
    assert found["images_per_second"] * found["shares"][0] <= 400.0
    assert sum(found["shares"]) == pytest.approx(1.0)
    assert found["processor_ms"] > 0


def check(result: dict[str, object], printed: str) -> None:
    assert json.loads(printed.rstrip().rpartition("\n")[2]) == result
    assert all(0 < row["ratio_low"] <= row["ratio"] <= row["ratio_high"] <= 1.01 for row in result["endpoints"])
    assert [one["images"] for one in result["memory"]] == sorted(one["images"] for one in result["memory"])


@pytest.mark.benchmark
def test_the_quick_benchmark_prints_its_tables(ray_session: None, capsys: pytest.CaptureFixture[str]) -> None:
    result = scale.main(["--quick"])
    check(result, capsys.readouterr().out)


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
def test_the_full_benchmark_prints_its_tables(capsys: pytest.CaptureFixture[str]) -> None:
    result = scale.main([])
    printed = capsys.readouterr().out
    check(result, printed)
    with capsys.disabled():
        print(f"\n{printed}")
