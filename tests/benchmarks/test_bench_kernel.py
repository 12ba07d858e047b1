"""The kernel benchmark runs and its predictions are right; how fast it is no test asserts."""

from __future__ import annotations

import json

import pytest

from semscale.bench import kernel
from semscale.scoring import AGGREGATIONS


def check(result: dict[str, object], printed: str) -> None:
    assert result["agreement"] == 1.0
    assert isinstance(result["rows"], list)
    ways = [row["way"] for row in result["rows"]]
    assert kernel.TOGETHER in ways
    assert len(ways) == len(AGGREGATIONS) + 3 + (kernel.SCREENED in ways)
    assert result["screened_agreement"] in (None, 1.0)
    assert isinstance(result["growth"], list)
    assert len(result["growth"]) == 4
    table, _, data = printed.rstrip().rpartition("\n")
    assert json.loads(data) == result
    assert table.count("| max, predictions") == 3 + (kernel.SCREENED in ways)


def test_the_quick_benchmark_prints_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    check(kernel.main(["--quick", "--rounds", "1"]), capsys.readouterr().out)


@pytest.mark.benchmark
def test_the_full_benchmark_prints_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    result = kernel.main([])
    printed = capsys.readouterr().out
    check(result, printed)
    with capsys.disabled():
        print(f"\n{printed}")
