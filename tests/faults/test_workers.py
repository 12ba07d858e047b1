"""A worker process or a whole Ray node is lost amid a study: files as without it, nothing doubled in MLflow."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from semscale.store.embedding_store import EmbeddingStore
from semscale.store.segment import read_keys


def run(mode: str, folder: Path, url: str) -> list[str]:
    command = [sys.executable, str(Path(__file__).parent / "worker_killed.py"), mode, str(folder), url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert ("STRUCK" in done.stdout) == (mode != "none"), done.stdout
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def alone(mini_server: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    run("none", folder, mini_server)
    return folder


@pytest.mark.faults
@pytest.mark.parametrize("mode", ["actor", "encode", "trial", "result"])
def test_losing_workers_costs_no_result(mode: str, alone: Path, mini_server: str, tmp_path: Path) -> None:
    lines = run(mode, tmp_path, mini_server)
    assert mode != "result" or lines.count("EXPERIMENT") > 1  # else no answer was lost
    for file in ("trials.parquet", "curves.parquet", "steps.parquet"):
        ours, theirs = (pd.read_parquet(folder / "run" / file) for folder in (tmp_path, alone))
        loose = [name for name in ours.columns if "run_id" in name or "seconds" in name]
        pd.testing.assert_frame_equal(ours.drop(columns=loose), theirs.drop(columns=loose), check_exact=True)
    for path in sorted((alone / "run" / "predictions").iterdir()):
        assert (tmp_path / "run" / "predictions" / path.name).read_bytes() == path.read_bytes()
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    runs = [
        run.data.tags
        for experiment in client.search_experiments()
        for run in client.search_runs([experiment.experiment_id])
    ]
    assert Counter(tags["kind"] for tags in runs) == {"study": 1, "curve": 2, "trial": 12}
    (folder,) = (tmp_path / "store").glob("*/image")
    assert len(EmbeddingStore(folder)) == 1200
    # what a lost process had stored is not encoded again
    assert sum(len(read_keys(path)) for path in folder.glob("*.parquet")) == 1200


@pytest.mark.faults
def test_losing_a_node_amid_scoring_changes_no_bit(tmp_path: Path) -> None:
    assert "EQUAL 48" in run("score", tmp_path, "grpc://127.0.0.1:9")
