"""The comparison with Ray Data runs; which is faster no test asserts."""

from __future__ import annotations

import json

import pytest

from semscale.bench import ray_data


def check(result: dict[str, object], printed: str) -> None:
    assert json.loads(printed.rstrip().rpartition("\n")[2]) == result
    assert [row["way"].split(",")[0] for row in result["tables"][0]["rows"]] == [
        "plain actors",
        "plain actors",
        "Ray Data",
    ]


@pytest.mark.benchmark
def test_the_quick_comparison_prints_its_table(ray_session: None, capsys: pytest.CaptureFixture[str]) -> None:
    check(ray_data.main(["--quick"]), capsys.readouterr().out)


@pytest.mark.benchmark
def test_the_full_comparison_prints_its_table(ray_session: None, capsys: pytest.CaptureFixture[str]) -> None:
    result = ray_data.main([])
    printed = capsys.readouterr().out
    check(result, printed)
    with capsys.disabled():
        print(f"\n{printed}")
