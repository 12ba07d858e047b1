"""The golden studies: run from the embeddings stored beside this file, and reduced to what must never change."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
STORE = HERE / "store"
STUDIES = {"quickstart": None, "strategies": HERE / "strategies.yaml", "controls": HERE / "controls.yaml"}
TABLES = ("trials", "curves", "steps", "controls", "across", "aggregations")


def run(name: str, folder: Path, *, frozen: bool = True) -> Path:
    """Run a golden study with the stored embeddings, and if `frozen` none beside; return its run directory."""
    store = folder / "store"
    if STORE.exists():
        shutil.copytree(STORE, store)
    arguments = [] if STUDIES[name] is None else [str(STUDIES[name])]
    command = [sys.executable, "-m", "semscale", "sweep", *arguments, "--encoder", "local"]
    done = subprocess.run(
        [*command, "--store", str(store), "--out", str(folder / name)],
        cwd=HERE.parent.parent,
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if frozen:
        assert "sent to the server: 0 images, 0 texts" in done.stdout, done.stdout
    return folder / name


def tables(run_directory: Path) -> dict[str, pd.DataFrame]:
    """Return the tables of numbers, and per predictions and ladder file the SHA-256 of its content."""
    found = {name: _table(path) for name in TABLES if (path := run_directory / f"{name}.parquet").is_file()}
    digests = {}
    for path in sorted([*run_directory.glob("predictions/*.parquet"), *run_directory.glob("ladders/*.json")]):
        # how Parquet compresses is not a result
        content = pd.read_parquet(path).to_csv(index=False).encode() if path.suffix == ".parquet" else path.read_bytes()
        digests[f"{path.parent.name}/{path.name}"] = hashlib.sha256(content).hexdigest()
    found["files"] = pd.DataFrame({"file": list(digests), "sha256": list(digests.values())})
    return found


def _table(path: Path) -> pd.DataFrame:
    # MLflow draws the numbers of its runs
    return pd.read_parquet(path).drop(columns="mlflow_run_id", errors="ignore")
