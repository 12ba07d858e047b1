"""The MLflow server goes and comes back, loses answers, or wants a password: everything is recorded once."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient

from semscale.common.errors import SemscaleError
from semscale.common.progress import SilentReporter
from semscale.config import study_from
from semscale.study.pipeline import sweep
from semscale.tracking.idempotent_runs import DatasetUsed, RunContent, find_runs, is_finished
from semscale.tracking.recorder import Recorder
from semscale.tracking.retry import RetryPolicy
from semscale.tracking.run_contents import TrialRecord, finish_study_run, start_study_run
from semscale.tracking.tracking_store import TrackingStore, open_store


def _module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"faults_{name}", Path(__file__).parent / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


helpers = _module("mlflow_server")
free_port = _module("conftest").free_port

NUMBERS = ("accuracy", "ci_low", "ci_high", "top5", "macro_f1", "balanced_accuracy", "calibration_error")
COUNTS = ("n_correct", "n_categories", "n_images", "n_classes")


CALLS = ["runs/create", "runs/log-inputs", "runs/log-batch", "runs/update", "a.txt"]
DATASET = DatasetUsed("digits", "abc", "bundled", "digits", 10, 2)


def trial(number: int) -> TrialRecord:
    row: dict[str, Any] = {"dataset": "digits", "model": "m", "strategy": "templates", "order": 0, "scale": number}
    row |= dict.fromkeys(NUMBERS, 0.5) | dict.fromkeys(COUNTS, 10) | {"mean_margin": 0.1, "ceiling": 1.0}
    row |= {"aggregation": "max", "gained": 3, "lost": 1}
    key, name = f"study/curve/s={number}", f"s={number}"
    return TrialRecord(key, "parent", name, row, {"one": 0.5}, {"a.txt": b"text"}, DATASET)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    server = helpers.MlflowServer(free_port(), tmp_path_factory.mktemp("mlflow"))
    server.start()
    try:
        server.wait()
        yield server
    finally:
        server.close()


@pytest.fixture
def running(server: Any) -> Any:
    server.start()
    server.wait()
    return server


@pytest.fixture
def relay(running: Any) -> Iterator[Any]:
    relay = helpers.Relay(running.url)
    yield relay
    relay.close()


def check_trials(store: TrackingStore, numbers: range) -> None:
    client = store.client()
    runs = client.search_runs([store.experiment_id], "tags.kind = 'trial'")
    assert sorted(run.data.params["scale"] for run in runs) == sorted(map(str, numbers))
    for run in runs:
        assert is_finished(run)
        for name in (*NUMBERS, "class_accuracy/one"):
            (point,) = client.get_metric_history(run.info.run_id, name)
            assert (point.step, point.value) == (int(run.data.params["scale"]), 0.5)
        assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["a.txt"]
        assert [one.dataset.digest for one in run.inputs.dataset_inputs] == ["abc"]


def record(store: TrackingStore, numbers: range, note: Any = print, advance: Any = lambda: None) -> None:
    known = find_runs(store.client(), store.experiment_id, kind="trial", study="study")
    with Recorder(store, "study", known, advance, note) as recorder:
        for number in numbers:
            recorder.put(trial(number))
    ids = recorder.run_ids()
    runs = find_runs(store.client(), store.experiment_id, kind="trial", study="study")
    assert {key: run.info.run_id for key, run in runs.items()} == ids


def test_answers_that_are_lost_double_nothing(relay: Any) -> None:
    store = open_store(relay.url, "lost", Path())
    relay.lose = set(CALLS)
    lines: list[str] = []
    record(store, range(1, 4), lines.append)
    assert sorted(relay.faults) == sorted(CALLS)
    assert lines
    check_trials(store, range(1, 4))


def test_a_study_whose_answers_are_lost_is_one_run(relay: Any) -> None:
    store = open_store(relay.url, "study", Path())
    relay.lose = set(CALLS)
    client, retry = store.client(), RetryPolicy(store.uri, print)
    run = retry.call(start_study_run, client, store, "study/1", "study")
    content = RunContent({"a": 1}, {("trials", 0): 3}, {"a.txt": b"text"}, {"mlflow.note.content": "words"})
    retry.call(finish_study_run, client, run, content, [DATASET])
    assert sorted(relay.faults) == sorted(CALLS)
    (found,) = client.search_runs([store.experiment_id])
    assert (found.info.run_id, found.info.status, found.data.params) == (run.info.run_id, "FINISHED", {"a": "1"})
    assert [point.value for point in client.get_metric_history(run.info.run_id, "trials")] == [3]
    assert [one.dataset.name for one in found.inputs.dataset_inputs] == ["digits"]
    assert found.data.tags["mlflow.note.content"] == "words"


def test_an_experiment_whose_making_is_not_answered_is_found(relay: Any) -> None:
    relay.lose = {"experiments/create"}
    store = open_store(relay.url, "not answered", Path())
    assert relay.faults == ["experiments/create"]
    assert open_store(relay.url, "not answered", Path()) == store


def test_a_request_that_is_carried_out_late_leaves_no_second_run(relay: Any) -> None:
    store = open_store(relay.url, "late", Path())
    relay.late = {"runs/create"}
    record(store, range(1, 2))
    assert relay.faults == ["runs/create"]
    check_trials(store, range(1, 2))
    deleted = store.client().search_runs([store.experiment_id], "tags.kind = 'trial'", run_view_type=2)
    assert len(deleted) == 1  # so there was a second one


@pytest.mark.faults
def test_a_server_that_is_killed_amid_recording_is_waited_for(running: Any) -> None:
    store = open_store(running.url, "killed", Path())
    lines: list[str] = []
    recorded: list[int] = []

    def advance() -> None:
        recorded.append(1)
        if len(recorded) == 3:
            running.kill()

    def note(line: str) -> None:
        lines.append(line)
        running.start()

    record(store, range(1, 13), note, advance)
    assert lines[0].startswith(f"MLflow at {running.url} does not answer (")
    check_trials(store, range(1, 13))


def contents(uri: str, experiment: str) -> dict[str, Any]:
    """Everything of an experiment's runs that does not differ from one sweep to the next, by key."""
    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    names = {run.info.run_id: run.info.run_name for run in runs}
    found: dict[str, Any] = {}
    for run in runs:
        identifier, tags = run.info.run_id, run.data.tags
        assert tags["semscale_key"] not in found, "a doubled run"
        history = {
            name: [(point.step, point.value) for point in client.get_metric_history(identifier, name)]
            for name in run.data.metrics
        }
        files = sorted(
            (file.path, file.path.endswith(".png") or file.file_size) for file in client.list_artifacts(identifier)
        )
        found[tags["semscale_key"]] = (
            run.info.status,
            tags["kind"],
            names.get(tags.get("mlflow.parentRunId", "")),
            run.data.params,
            history,
            tags["mlflow.note.content"] if tags["kind"] == "trial" else None,
            sorted((one.dataset.name, one.dataset.digest) for one in run.inputs.dataset_inputs),
            files if tags["kind"] == "trial" else [path for path, _ in files],
        )
    return found


class Outages(SilentReporter):
    """Kills an MLflow server amid stages; it comes back when it is missed, some seconds later."""

    def __init__(self, server: Any, stages: dict[str, int], seconds: float) -> None:
        self._server, self._stages, self._seconds = server, dict(stages), seconds
        self._away = threading.Lock()
        self.lines: list[str] = []
        self.done: list[str] = []

    def stage(self, title: str, total: int | None = None, unit: str = "") -> Any:
        from contextlib import contextmanager

        @contextmanager
        def shown() -> Iterator[Any]:
            def advance(done: int, total: int | None) -> None:
                if title in self._stages and done >= self._stages[title]:
                    del self._stages[title]
                    self.lines.append(f"killed amid {title}")
                    self._server.kill()

            yield advance
            self.done.append(title)

        return shown()

    def note(self, text: str) -> None:
        self.lines.append(text)
        if "does not answer" in text and self._away.acquire(blocking=False):

            def back() -> None:
                # it may be killed again before anybody here would have seen it answer
                self._server.start()
                self._away.release()

            threading.Timer(self._seconds, back).start()


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seconds", [0.0, 30.0])
def test_outages_amid_a_sweep_cost_no_run_and_hold_up_no_encoding(
    seconds: float, running: Any, mini_server: str, ray_session: None, tmp_path: Path
) -> None:
    tree = {
        "name": "outages",
        "datasets": ["digits"],
        "limit": 60,
        "strategies": ["templates"],
        "controls": ["duplicates"],
        "steps": 4,
        "server": {"urls": [mini_server]},
    }
    here, there = tmp_path / "here" / "run", tmp_path / "there" / "run"
    experiment = f"outages {seconds:.0f}"
    alone = sweep(study_from({**tree, "tracking": {"experiment": experiment}}), here, SilentReporter())
    report = Outages(running, {"encoding digits": 1, "trials": 3, "concluding": 1}, seconds)
    tracking = {"uri": running.url, "experiment": experiment}
    store = str(tmp_path / "other-store")  # so that there is something to encode
    result = sweep(study_from({**tree, "store": store, "tracking": tracking}), there, report)
    killed = [line for line in report.lines if line.startswith("killed")]
    assert killed == ["killed amid encoding digits", "killed amid trials", "killed amid concluding"]
    # the first outage lasts until MLflow is missed, and it was missed only after everything was scored
    missed = next(line for line in report.lines if "does not answer" in line)
    assert report.lines.index(missed) > report.lines.index(killed[0])
    assert result.images_sent == alone.images_sent == 60
    assert running.url in result.ui_command
    for name in ("trials", "curves"):
        ours, theirs = getattr(result, name), getattr(alone, name)
        loose = [column for column in ours.columns if "run_id" in column]
        pd.testing.assert_frame_equal(ours.drop(columns=loose), theirs.drop(columns=loose), check_exact=True)
    for path in sorted((here / "predictions").iterdir()):
        assert (there / "predictions" / path.name).read_bytes() == path.read_bytes()
    ours, theirs = contents(running.url, experiment), contents(f"sqlite:///{tmp_path}/here/mlflow.db", experiment)
    assert Counter(entry[1] for entry in ours.values()) == {"study": 1, "curve": 2, "trial": 8}
    by_kind = [sorted((entry[1:] for entry in found.values()), key=str) for found in (ours, theirs)]
    assert {entry[0] for entry in ours.values()} == {"FINISHED"}
    for left, right in zip(*by_kind, strict=True):
        if left[0] == "trial":
            assert left == right


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server behind basic auth whose administrator is ann."""
    folder = tmp_path_factory.mktemp("guarded")
    settings = folder / "auth.ini"
    settings.write_text(
        f"[mlflow]\ndefault_permission = NO_PERMISSIONS\ndatabase_uri = sqlite:///{folder / 'auth.db'}\n"
        "admin_username = ann\nadmin_password = right-password-1\n"
        "auth_cache_ttl_seconds = 600\n"  # else every request costs a slow hash
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    environment = {"MLFLOW_AUTH_CONFIG_PATH": str(settings), "MLFLOW_FLASK_SERVER_SECRET_KEY": "of-this-test"}
    server = helpers.MlflowServer(free_port(), folder, "--app-name", "basic-auth", environment=environment)
    server.start()
    try:
        server.wait()
        yield server
    finally:
        server.close()


@pytest.mark.faults
def test_a_server_behind_basic_auth_takes_runs(guarded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "right-password-1")
    store = open_store(guarded.url, "guarded", Path())
    record(store, range(1, 2))
    check_trials(store, range(1, 2))


@pytest.mark.faults
@pytest.mark.parametrize("password", ["wrong-password-2", None])
def test_a_wrong_password_is_said_at_once_and_not_shown(
    password: str | None, guarded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if password is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    with pytest.raises(SemscaleError, match="MLflow's store cannot be opened") as caught:
        open_store(guarded.url, "guarded", Path())
    assert "401" in str(caught.value)
    assert "MLFLOW_TRACKING_PASSWORD" in str(caught.value.hint)
    # a password that is changed amid a run
    lines: list[str] = []
    with Recorder(TrackingStore(guarded.url, "1", "guarded"), "study", {}, lambda: None, lines.append) as recorder:
        recorder.put(trial(1))
    with pytest.raises(SemscaleError, match="MLflow cannot record the results") as later:
        recorder.run_ids()
    assert not lines
    assert "wrong-password-2" not in f"{caught.value} {later.value}"
