"""`semscale replay` as a user gives it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from folders import write

from semscale.cli import main

STEP_KEYS = [
    *("dataset", "family", "n_categories", "scale", "n_images", "correct", "accuracy", "ci_low", "ci_high"),
    *("published_accuracy", "difference", "usable", "issue"),
]
CURVE_KEYS = [
    *("dataset", "family", "baseline", "peak", "peak_n_categories", "peak_change", "peak_p", "final_change"),
    *("critical_scale", "critical_low", "critical_high", "trend"),
]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["replay", *map(str, arguments)])


def test_the_table_shows_steps_curves_unknown_texts_and_issues(tmp_path: Path) -> None:
    result = run(write(tmp_path))
    assert result.exit_code == 0
    assert "+25.00" in result.output
    assert "Two plain 4: not offered, counted as wrong: cat (1)" in result.output
    assert "Two plain 7: half a file" in result.output
    assert "critical scale" in result.output


def test_json_has_the_documented_keys_and_nothing_else_on_stdout(tmp_path: Path) -> None:
    out = tmp_path / "rescored.parquet"
    result = run(write(tmp_path / "a"), "--json", "--out", out)
    document = json.loads(result.stdout)
    assert set(document) == {"steps", "curves"}
    assert [list(row)[: len(STEP_KEYS)] for row in document["steps"]] == [STEP_KEYS] * 3
    assert set(CURVE_KEYS) <= set(document["curves"][0])
    assert document["steps"][1]["difference"] is None
    assert str(out) in result.stderr
    assert run(tmp_path / "a", "--format", "json").stdout == result.stdout


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_tables_are_written(tmp_path: Path, ending: str) -> None:
    out = tmp_path / "new" / f"rescored.{ending}"
    assert run(write(tmp_path / "a"), "--out", out).exit_code == 0
    read = pd.read_csv if ending == "csv" else pd.read_parquet
    steps, curves = read(out), read(out.with_name(f"rescored-curves.{ending}"))
    assert steps["correct"].tolist() == [3, 3, 2]
    assert steps["unknown"].map(json.loads).tolist() == [{}, {"cat": 1}, {}]
    assert set(CURVE_KEYS) <= set(curves)
    assert len(curves) == 1


def test_tables_of_broken_curves_are_written_too(tmp_path: Path) -> None:
    broken = [{"n_categories": 2, "categories": {"cat": ["cat"], "hot_dog": ["hot dog"]}, "usable": False}]
    write(tmp_path / "a", broken)
    assert run(tmp_path, "--out", tmp_path / "rescored.csv").exit_code == 0
    assert pd.read_csv(tmp_path / "rescored-curves.csv")["trend"].isna().all()


def test_errors_are_printed_without_a_traceback(tmp_path: Path) -> None:
    write(tmp_path / "a")
    assert run().exit_code == 2
    for arguments, words in (
        ([tmp_path / "nowhere"], "does not exist"),
        ([tmp_path / "a", "--out", tmp_path / "rescored.xlsx"], "a .csv or .parquet file"),
        ([tmp_path / "a", "--out", tmp_path / "a" / "ladder.json" / "x.csv"], "cannot write"),
    ):
        result = run(*arguments)
        assert result.exit_code == 1
        assert words in result.output


def test_it_starts_without_the_engines(tmp_path: Path) -> None:
    write(tmp_path)
    code = (
        "import sys; from click.testing import CliRunner; from semscale.cli import main\n"
        f"assert CliRunner().invoke(main, ['replay', {str(tmp_path)!r}]).exit_code == 0\n"
        "print({'ray', 'torch', 'mlflow', 'jina', 'matplotlib'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert result.stdout.strip() == "set()"
