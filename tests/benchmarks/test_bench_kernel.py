"""The kernel benchmark runs and its predictions are right; how fast it is no test asserts."""

from __future__ import annotations

import json

import pytest

from semscale.bench import kernel
from semscale.scoring import AGGREGATIONS, BLOCK


def check(result: dict[str, object], printed: str) -> None:
    assert result["agreement"] == 1.0
    assert isinstance(result["rows"], list)
    ways = [row["way"] for row in result["rows"]]
    assert kernel.TOGETHER in ways
    assert len(ways) == len(AGGREGATIONS) + 3 + (kernel.SCREENED in ways) + (kernel.ON_GPU in ways)
    gpu = result["on_gpu"]
    assert (gpu is None) == (kernel.ON_GPU not in ways)
    assert gpu is None or (isinstance(gpu, dict) and gpu["agreement"] == 1.0)
    assert result["screened_agreement"] in (None, 1.0)
    assert isinstance(result["growth"], list)
    assert len(result["growth"]) == 4
    table, _, data = printed.rstrip().rpartition("\n")
    assert json.loads(data) == result
    assert table.count("| max, predictions") == 3 + (kernel.SCREENED in ways) + (kernel.ON_GPU in ways)


def test_the_quick_benchmark_prints_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    check(kernel.main(["--quick", "--rounds", "1"]), capsys.readouterr().out)


def test_what_is_asked_of_a_gpu_can_be_asked_of_the_cpu() -> None:
    found = kernel.device_agreement(kernel.Case(kernel.Sizes(BLOCK + 10, 64, 20, 3)), "cpu")
    assert found["agreement"] == 1.0
    assert 0 <= found["again"] < 0.5


@pytest.mark.benchmark
def test_the_full_benchmark_prints_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    result = kernel.main([])
    printed = capsys.readouterr().out
    check(result, printed)
    with capsys.disabled():
        print(f"\n{printed}")
