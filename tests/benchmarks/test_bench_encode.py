"""The encoding benchmark runs and measures what it says; how fast it is no test asserts."""

from __future__ import annotations

import json

import pytest

from semscale.bench import encode

PIXELS = ["open_clip in this process", "server, documents", "server, packed"]
FILES = ["open_clip in this process", "clip-client", "semscale", "semscale again"]


def check(result: dict[str, object], printed: str) -> None:
    assert json.loads(printed.rstrip().rpartition("\n")[2]) == result
    tables = result["tables"]
    assert isinstance(tables, list)
    for table in tables:
        assert all(row["low"] <= row["rate_ratio"] <= row["high"] for row in table["rows"])
    assert [row["way"] for row in tables[0]["rows"]] == PIXELS
    assert [row["way"] for row in tables[-1]["rows"]] == FILES
    assert tables[0]["rows"][0]["rate_ratio"] == tables[-1]["rows"][1]["rate_ratio"] == 1.0


def test_the_quick_benchmark_prints_its_tables(ray_session: None, capsys: pytest.CaptureFixture[str]) -> None:
    result = encode.main(["--quick"])
    check(result, capsys.readouterr().out)


@pytest.mark.benchmark
def test_the_full_benchmark_prints_its_tables(ray_session: None, capsys: pytest.CaptureFixture[str]) -> None:
    result = encode.main([])
    printed = capsys.readouterr().out
    check(result, printed)
    with capsys.disabled():
        print(f"\n{printed}")
