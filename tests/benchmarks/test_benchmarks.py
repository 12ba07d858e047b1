"""The benchmarks run and print their table; no test asserts how fast anything is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .harness import Row, markdown, row

ROOT = Path(__file__).parents[2]


def run(*options: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.benchmarks", "--format", "json", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)["rows"]
    assert rows
    for each in rows:
        assert list(each) == ["measure", "target", "median", "low", "high", "meets"]
        assert each["low"] <= each["median"] <= each["high"]
    return rows


def test_rows_are_held_against_their_targets() -> None:
    rows = [row("a", [2.0, 1.0, 4.0], most=2), row("b", [0.84], least=0.85), row("c", [12345.6])]
    assert [(each.target, each.meets) for each in rows] == [("<= 2", True), (">= 0.85", False), ("", None)]
    assert rows[0] == Row("a", "<= 2", 2.0, 1.0, 4.0, True)
    lines = markdown(rows).splitlines()[2:]
    assert lines == ["| a | <= 2 | 2.00 (1.00 to 4.00) | yes |", "| b | >= 0.85 | 0.84 | no |", "| c |  | 12,346 |  |"]


def test_the_kernel_benchmark_runs() -> None:
    rows = {each["measure"]: each for each in run("--quick", "--only", "kernel")}
    assert rows["kernel: `max`, predictions, share equal to those of the similarity matrix"]["median"] > 0.999
    assert all(each["meets"] is None for each in rows.values())


@pytest.mark.benchmark
@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", ["encode", "study", "reading"])
def test_every_benchmark_runs_at_quick_sizes(part: str) -> None:
    run("--quick", "--only", part)


@pytest.mark.benchmark
@pytest.mark.timeout(7200)
def test_the_full_benchmarks_run() -> None:
    run()
