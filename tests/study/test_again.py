"""Repeated sweep with its own server: nothing is started for finished work."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from semscale.common.errors import SemscaleError
from semscale.common.progress import SilentReporter
from semscale.config import StudyConfig, study_from
from semscale.models.model_fingerprint import model_files_digest
from semscale.store.encoder_fingerprint import cache_fingerprint, cached_fingerprint, fingerprint_of
from semscale.study.pipeline import SweepResult, sweep

pytestmark = pytest.mark.usefixtures("ray_session")

STEPS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("again")


@pytest.fixture(scope="module")
def study(folder: Path) -> StudyConfig:
    tree = {"datasets": ["digits"], "strategies": ["templates"], "controls": [], "steps": STEPS, "limit": 40}
    return study_from(tree | {"store": str(folder / "store"), "server": {"replicas": 1}})


@pytest.fixture(scope="module")
def first(study: StudyConfig, folder: Path) -> SweepResult:
    return sweep(study, folder / "runs" / "first", SilentReporter())


@pytest.fixture(scope="module")
def client(folder: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{folder / 'runs' / 'mlflow.db'}")


def trial_runs(client: MlflowClient) -> set[str]:
    experiment = client.get_experiment_by_name("semscale").experiment_id
    return {run.info.run_id for run in client.search_runs([experiment], "tags.kind = 'trial'")}


def test_a_study_that_is_done_starts_no_server_and_gives_the_same(
    first: SweepResult, study: StudyConfig, client: MlflowClient
) -> None:
    log = first.directory / "logs" / "clip-server.log"
    assert "ready at" in log.read_text()
    log.unlink()
    repeated = sweep(study, first.directory, SilentReporter())
    assert not log.exists()
    assert (repeated.images_sent, repeated.texts_sent) == (0, 0)
    pd.testing.assert_frame_equal(repeated.trials, first.trials)
    pd.testing.assert_frame_equal(repeated.curves, first.curves)
    assert trial_runs(client) == set(first.trials["mlflow_run_id"])


@pytest.mark.faults
def test_a_wrong_note_about_the_model_is_refused_by_its_server_and_then_gone(
    first: SweepResult, study: StudyConfig, folder: Path, tmp_path: Path
) -> None:
    origin = model_files_digest("semscale-mini", "cpu", None)
    assert origin is not None
    true = cached_fingerprint(folder / "store", "semscale-mini", origin)
    assert true is not None
    assert true.info is not None
    # the folder of other weights, with a note that the bundled files gave them
    info = {**true.info, "weights_sha256": "0" * 64}
    store = tmp_path / "store"
    folder = store / fingerprint_of("semscale-mini", info, true.dimension)
    folder.mkdir(parents=True)
    record = json.loads((folder / "store" / true.fingerprint / "encoder.json").read_text()) | {"info": info}
    (folder / "encoder.json").write_text(json.dumps(record))
    false = type(true)(true.model, folder.name, true.dimension, info)
    cache_fingerprint(store, false, origin)
    wrong = study.model_copy(update={"store": str(store)})
    with pytest.raises(SemscaleError, match="another encoder than the model's files gave before"):
        sweep(wrong, tmp_path / "run", SilentReporter())
    assert not list(folder.glob("image/*"))
    result = sweep(wrong, tmp_path / "run", SilentReporter())
    assert result.images_sent == 40
    assert cached_fingerprint(store, "semscale-mini", origin) == true
