"""A study with store, results and artifacts in an object store, resumed by a second machine."""

from __future__ import annotations

import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from semscale.common.errors import SemscaleError
from semscale.common.progress import choose_reporter
from semscale.config import StudyConfig
from semscale.store.mirrored_directory import MirroredDirectory
from semscale.study.pipeline import sweep
from semscale.study.run_directory import study_file

STUDY = """
name: far
datasets: [{spec: shapes, per_class: 4}]
strategies: [templates-fixed]
controls: []
steps: 2
store: s3://far/store
tracking: {uri: "sqlite:///runs.db", artifacts: "s3://far/artifacts"}
"""
OUT = "s3://far/runs/one"


def semscale(folder: Path, machine: str, *arguments: str) -> str:
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / machine)}
    command = [sys.executable, "-m", "semscale", "sweep", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.cluster
def test_another_machine_resumes_a_study_in_an_object_store(s3: Any, tmp_path: Path, mini_server: str) -> None:
    s3.mkdir("far")
    (tmp_path / "study.yaml").write_text(STUDY)
    output = semscale(tmp_path, "first", "study.yaml", "--out", OUT, "--server", mini_server)
    assert f"results  {OUT}\n" in output and f"report   {OUT}/report.html" in output  # noqa: PT018
    assert "sent to the server: 48 images" in output
    names = {path.removeprefix("far/runs/one/") for path in s3.find("far/runs/one")}
    assert {"study.yaml", "trials.parquet", "curves.parquet", "report.html", "quarantine.csv"} <= names
    assert "predictions/shapes__semscale-mini__templates-fixed__0.parquet" in names
    assert "ladders/shapes__templates-fixed__0.json" in names
    assert any(path.endswith("confusion-02.png") for path in s3.find("far/artifacts"))
    trials = s3.cat("far/runs/one/trials.parquet")

    output = semscale(tmp_path, "second", "--resume", OUT, "--server", mini_server)
    assert "sent to the server: 0 images, 0 texts" in output
    pd.testing.assert_frame_equal(
        pd.read_parquet(BytesIO(s3.cat("far/runs/one/trials.parquet"))), pd.read_parquet(BytesIO(trials))
    )


def test_the_database_cannot_be_in_an_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(SemscaleError, match="MLflow's database cannot be in an object store"):
        sweep(StudyConfig(), MirroredDirectory.of("s3://far/runs/two"), choose_reporter(Console(), quiet=True))
    assert not list(tmp_path.iterdir())


def test_what_is_no_run_directory_is_not_resumed(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(SemscaleError, match="not a run directory"):
        study_file("s3://nowhere/run")
