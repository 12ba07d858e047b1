"""The disk under mlflow.db is full: a clear stop, and the same command completes when there is room."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from semscale.common.errors import SemscaleError
from semscale.common.progress import SilentReporter
from semscale.config import study_from
from semscale.study.pipeline import sweep
from semscale.tracking.tracking_store import open_store


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.faults
@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("left", [0, 40_000, 120_000])
def test_a_full_disk_under_the_runs(
    left: int, mini_server: str, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where MLflow puts artifacts of a database that it is only given the address of
    uri = f"sqlite:///{small_disk}/mlflow.db"
    tree = {"datasets": ["digits"], "strategies": ["templates"], "controls": [], "steps": 4, "limit": 40}
    places = {"store": str(tmp_path / "store"), "tracking": {"uri": uri}, "server": {"urls": [mini_server]}}
    study = study_from(tree | places)
    open_store(uri, study.tracking.experiment, tmp_path)
    room = os.statvfs(small_disk)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(room.f_bavail * room.f_frsize - left))
    with pytest.raises(SemscaleError) as caught:
        sweep(study, tmp_path / "run", SilentReporter())
    assert "MLflow" in str(caught.value)
    filler.unlink()
    result = sweep(study, tmp_path / "run", SilentReporter())
    assert result.images_sent == 0 or left == 0
    client = MlflowClient(uri)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert Counter(run.data.tags["kind"] for run in runs) == {"study": 1, "curve": 1, "trial": 4}
    for run in runs:
        for name in run.data.metrics:
            steps = [point.step for point in client.get_metric_history(run.info.run_id, name)]
            assert len(steps) == len(set(steps))
