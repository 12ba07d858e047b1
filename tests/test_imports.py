"""Commands that need no engine import none: they are what a user waits for at the prompt."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ENGINES = ("ray", "mlflow", "torch", "jina", "clip_client", "docarray", "open_clip")

_LOOK = """
import sys
from semscale.cli import main
try:
    main(sys.argv[1:])
finally:
    print("loaded:", *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def loaded(*arguments: str, cwd: Path) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", _LOOK, *arguments], capture_output=True, text=True, cwd=cwd, timeout=120, check=False
    )
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("loaded:")]
    assert "Traceback" not in done.stderr
    return set(line.split()[1:])


@pytest.mark.parametrize(
    "arguments",
    [
        ["sweep", "--help"],
        ["ladder", "digits", "--strategy", "templates-fixed", "--steps", "2"],
        ["sweep", "--steps", "1000"],
        ["sweep", "study.yaml"],
        ["submit", "study.yaml"],
        ["compare", "nowhere", "else"],
        ["ui", "nowhere"],
    ],
)
def test_commands_without_engines_import_none(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("stepz: 3\n", encoding="utf-8")
    found = loaded(*arguments, cwd=tmp_path)
    assert "semscale" in found
    assert not found & set(ENGINES)


def test_replay_imports_no_engine(tmp_path: Path) -> None:
    steps = [{"n_categories": 2, "categories": {"cat": ["cat"], "dog": ["dog"]}}]
    ladder = {"dataset": "pets", "family": "plain", "classes": ["cat", "dog"], "steps": steps}
    (tmp_path / "ladder.json").write_text(json.dumps(ladder), encoding="utf-8")
    table = pd.DataFrame({"file": ["1", "2"], "true_class": ["cat", "dog"], "2": ["cat", "cat"]})
    table.to_parquet(tmp_path / "predictions.parquet")
    found = loaded("replay", str(tmp_path), "--out", "steps.csv", cwd=tmp_path)
    assert (tmp_path / "steps.csv").exists()
    assert not found & set(ENGINES)


def test_help_imports_neither_tables_nor_figures(tmp_path: Path) -> None:
    unwanted = {"pandas", "numpy", "scipy", "matplotlib", "pydantic", "rich", *ENGINES}
    assert not loaded("--help", cwd=tmp_path) & unwanted
