"""Background recorder with a real store: each trial once, also after interruptions and faults."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from semscale.common.errors import SemscaleError
from semscale.tracking.idempotent_runs import find_or_create_run, find_runs, is_finished
from semscale.tracking.recorder import Recorder
from semscale.tracking.run_contents import TrialRecord
from semscale.tracking.tracking_store import TrackingStore

NUMBERS = ("accuracy", "ci_low", "ci_high", "top5", "macro_f1", "balanced_accuracy", "calibration_error")
COUNTS = ("n_correct", "n_categories", "n_images", "n_classes")


def trial(number: int) -> TrialRecord:
    row: dict[str, Any] = {"dataset": "digits", "model": "m", "strategy": "templates", "order": 0, "scale": number}
    row |= dict.fromkeys(NUMBERS, 0.5) | dict.fromkeys(COUNTS, 10) | {"mean_margin": 0.1, "ceiling": 1.0}
    row |= {"aggregation": "max", "gained": 3, "lost": 1}
    accuracy = {"one": 0.5, "two": float("nan")}
    return TrialRecord(f"study/curve/s={number}", "parent", f"s={number}", row, accuracy, {"a.txt": b"text"})


@pytest.fixture
def recorder(store: TrackingStore) -> Callable[..., Recorder]:
    def make(note: Callable[[str], None] = print, **options: Any) -> Recorder:
        existing = find_runs(store.client(), store.experiment_id, kind="trial", study="study")
        return Recorder(store, "study", existing, lambda: None, note, **options)

    return make


def test_trials_are_recorded_once_each_and_found_again(store: TrackingStore, recorder: Callable[..., Recorder]) -> None:
    client = store.client()
    second = trial(2)  # what an interrupted sweep left
    begun = find_or_create_run(client, store.experiment_id, second.key, name="s=2", tags=second.tags("study"))
    for _ in range(2):
        with recorder() as first:
            for number in (1, 2, 3):
                first.put(trial(number))
    runs = find_runs(client, store.experiment_id, kind="trial", study="study")
    assert sorted(runs) == [f"study/curve/s={number}" for number in (1, 2, 3)]
    assert all(is_finished(run) for run in runs.values())
    assert first.run_ids() == {key: run.info.run_id for key, run in runs.items()}
    assert runs["study/curve/s=2"].info.run_id == begun.info.run_id
    run = runs["study/curve/s=1"]
    assert run.data.metrics["accuracy"] == 0.5
    assert run.data.params["scale"] == "1"
    assert run.data.metrics["class_accuracy/one"] == 0.5
    assert "class_accuracy/two" not in run.data.metrics  # no images of that class
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["a.txt"]
    assert len(client.search_runs([store.experiment_id], "tags.kind = 'trial'")) == 3


@pytest.mark.faults
def test_a_locked_database_is_waited_for(store: TrackingStore, folder: Path) -> None:
    spoken = threading.Event()
    lines: list[str] = []

    def note(line: str) -> None:
        lines.append(line)
        spoken.set()

    hasty = replace(store, uri=f"{store.uri}?timeout=1")  # seconds that sqlite itself waits; 20 otherwise
    locked = closing(sqlite3.connect(folder / "mlflow.db", isolation_level=None))
    with locked as other, Recorder(hasty, "study", {}, lambda: None, note) as waiting:
        other.execute("BEGIN EXCLUSIVE")
        waiting.put(trial(1))
        assert spoken.wait(120)
        other.execute("ROLLBACK")
        assert len(waiting.run_ids()) == 1
    assert "database is locked" in lines[0]
    assert len(store.client().search_runs([store.experiment_id], "tags.kind = 'trial'")) == 1


def failure_of(recorder: Recorder) -> SemscaleError:
    with recorder:
        recorder.put(trial(1))
    with pytest.raises(SemscaleError, match="MLflow cannot record the results") as caught:
        recorder.run_ids()
    return caught.value


def test_a_store_that_refuses_fails_immediately(store: TrackingStore) -> None:
    lines: list[str] = []
    error = failure_of(Recorder(replace(store, experiment_id="77"), "study", {}, lambda: None, lines.append))
    assert "77" in str(error)
    assert not lines


def test_a_store_that_stays_away_is_given_up(store: TrackingStore) -> None:
    gone = replace(store, uri="http://ann:secret@127.0.0.1:9")
    lines: list[str] = []
    error = failure_of(Recorder(gone, "study", {}, lambda: None, lines.append, timeout=0.2))
    assert error.where == "http://***@127.0.0.1:9"
    assert "secret" not in str(error) + "".join(lines)
