"""Runs in a real sqlite store: created once, completed after an interruption, never duplicated."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from semscale.common.errors import SemscaleError
from semscale.tracking.idempotent_runs import (
    DatasetUsed,
    RunContent,
    complete_run,
    find_or_create_run,
    find_runs,
    is_finished,
    log_datasets,
)
from semscale.tracking.tracking_store import TrackingStore, open_store

DIGITS = DatasetUsed("digits", "ab" * 32, "bundled", "digits", 896, 10)
POINTS = {("accuracy", 1): 0.5, ("accuracy", 2): 0.75, ("top5", 1): 1.0}


def test_store_is_kept_beside_the_runs_with_write_ahead_log(store: TrackingStore, folder: Path) -> None:
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert open_store(None, store.experiment, folder) == store
    client = store.client()
    assert client.get_experiment(store.experiment_id).artifact_location == (folder / "mlartifacts").as_uri()


@pytest.mark.parametrize(("name", "uri"), [("what? 100%41", None), ("plain", "sqlite:///{}/mlflow.db?timeout=60")])
def test_the_database_is_at_its_address(
    name: str, uri: str | None, store: TrackingStore, folder: Path, tmp_path: Path
) -> None:
    target = tmp_path / name
    target.mkdir()
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        connection.execute("VACUUM INTO ?", [str(target / "mlflow.db")])
    opened = open_store(uri and uri.format(target), "another", target)
    run = find_or_create_run(opened.client(), opened.experiment_id, "k", name="n", tags={})
    complete_run(opened.client(), run, RunContent(files={} if uri else {"a.txt": b"text"}))
    with closing(sqlite3.connect(target / "mlflow.db")) as connection:
        assert connection.execute("SELECT status FROM runs WHERE run_uuid = ?", [run.info.run_id]).fetchone() == (
            "FINISHED",
        )
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert not [entry.name for entry in target.iterdir() if "?" in entry.name]
    assert uri or len(list(target.glob("mlartifacts/**/a.txt"))) == 1


def test_a_key_finds_its_run_again(store: TrackingStore) -> None:
    client = store.client()
    run = find_or_create_run(client, store.experiment_id, "a/b", name="first", tags={"kind": "trial"})
    repeated = find_or_create_run(client, store.experiment_id, "a/b", name="other", tags={})
    other = find_or_create_run(client, store.experiment_id, "a/c", name="first", tags={}, parent=run.info.run_id)
    assert repeated.info.run_id == run.info.run_id
    assert other.data.tags["mlflow.parentRunId"] == run.info.run_id


def test_an_interrupted_run_is_completed_without_duplicates(store: TrackingStore, tmp_path: Path) -> None:
    client = store.client()
    run = find_or_create_run(client, store.experiment_id, "k", name="n", tags={})
    client.log_metric(run.info.run_id, "accuracy", 0.5, step=1)  # what an interrupted attempt left
    client.log_param(run.info.run_id, "scale", "1")
    for _ in range(2):
        run = find_or_create_run(client, store.experiment_id, "k", name="n", tags={})
        complete_run(client, run, RunContent({"scale": 1}, POINTS, {"a/b.txt": b"text"}))
    run = client.get_run(run.info.run_id)
    assert is_finished(run)
    history = {name: client.get_metric_history(run.info.run_id, name) for name in ("accuracy", "top5")}
    assert sorted((p.step, p.value) for p in history["accuracy"]) == [(1, 0.5), (2, 0.75)]
    assert len(history["top5"]) == 1
    path = client.download_artifacts(run.info.run_id, "a/b.txt", str(tmp_path))
    assert Path(path).read_bytes() == b"text"


def test_runs_are_found_by_their_tags_page_by_page(store: TrackingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semscale.tracking.idempotent_runs._RUNS_PER_PAGE", 2)
    client = store.client()
    expected = {}
    for number in range(5):
        tags = {"kind": "trial", "study": "Ann's"}
        run = find_or_create_run(client, store.experiment_id, f"Ann's/{number}", name="n", tags=tags)
        complete_run(client, run, RunContent())
        expected[f"Ann's/{number}"] = run.info.run_id
    unfinished = find_or_create_run(client, store.experiment_id, "Ann's/open", name="n", tags=tags)
    find_or_create_run(client, store.experiment_id, "other", name="n", tags={"kind": "trial", "study": "other"})
    found = find_runs(client, store.experiment_id, kind="trial", study="Ann's")
    assert {key: run.info.run_id for key, run in found.items() if is_finished(run)} == expected
    assert set(found) - set(expected) == {"Ann's/open"}
    assert found["Ann's/open"].info.run_id == unfinished.info.run_id
    repeated = find_or_create_run(client, store.experiment_id, "Ann's/3", name="n", tags=tags)
    assert repeated.info.run_id == expected["Ann's/3"]


def test_more_points_than_one_call_takes(store: TrackingStore) -> None:
    client = store.client()
    run = find_or_create_run(client, store.experiment_id, "k", name="n", tags={})
    points = {("m", step): float(step) for step in range(2300)}
    complete_run(client, run, RunContent(metrics=points))
    assert len(client.get_metric_history(run.info.run_id, "m")) == 2300


def _write(store: TrackingStore, number: int) -> None:
    client = store.client()
    for i in range(4):
        run = find_or_create_run(client, store.experiment_id, f"{number}/{i}", name="n", tags={"kind": "trial"})
        complete_run(client, run, RunContent({"i": i}, POINTS, {"x.txt": b"x"}))


@pytest.mark.faults
def test_processes_write_side_by_side(store: TrackingStore) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write, args=(store, number)) for number in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    runs = store.client().search_runs([store.experiment_id], "tags.kind = 'trial'")
    assert len(runs) == 8
    assert all(is_finished(run) for run in runs)


def test_every_name_is_a_metric_of_its_own(store: TrackingStore) -> None:
    client = store.client()
    odd = [".", "..", "/", "a//b", "a/./b", "日本 (x)", "中国 (x)", "", "x" * 250, "x" * 251, " ", "a/"]
    points = {(f"class_accuracy/{name}", 1): float(number) for number, name in enumerate(["one", "a/b", *odd])}
    run = find_or_create_run(client, store.experiment_id, "k", name="n" * 300 + " / s=01", tags={})
    for _ in range(2):
        complete_run(client, run, RunContent(metrics=points))
    found = client.get_run(run.info.run_id)
    assert sorted(found.data.metrics.values()) == sorted(points.values())
    assert (found.data.metrics["class_accuracy/one"], found.data.metrics["class_accuracy/a/b"]) == (0, 1)
    assert len(found.info.run_name) <= 250
    assert found.info.run_name.endswith(" / s=01")


def test_a_store_that_cannot_be_opened_is_a_user_error_without_password(tmp_path: Path) -> None:
    with pytest.raises(SemscaleError) as caught:
        open_store("nonsense://ann:secret@nowhere/x", "semscale", tmp_path)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("uri", [None, "sqlite:///mlflow.db"])
def test_a_database_that_is_a_folder_fails_immediately(
    uri: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow.db").mkdir()
    with pytest.raises(SemscaleError, match="MLflow's store cannot be opened") as caught:
        open_store(uri, "semscale", tmp_path)
    assert str(caught.value.found).endswith("mlflow.db is a folder")
    assert ("move it away" in str(caught.value.hint)) == (uri is None)


def test_a_database_that_refuses_fails_immediately(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # MLflow would retry for minutes
    monkeypatch.setattr("mlflow.store.db.utils.create_sqlalchemy_engine_with_retry", pytest.fail)
    with pytest.raises(SemscaleError, match="MLflow's store cannot be opened") as caught:
        open_store("postgresql+psycopg2://127.0.0.1:1/mlflow", "semscale", tmp_path)
    assert "refused" in str(caught.value.found)


def test_a_dataset_is_an_input_once(store: TrackingStore) -> None:
    client = store.client()
    made = find_or_create_run(client, store.experiment_id, "k", name="n", tags={})
    for _ in range(2):
        log_datasets(client, made, [DIGITS, replace(DIGITS, name="shapes")])
    found = find_or_create_run(client, store.experiment_id, "k", name="n", tags={})
    log_datasets(client, found, [DIGITS])
    used = {one.dataset.name: one for one in client.get_run(made.info.run_id).inputs.dataset_inputs}
    assert set(used) == {"digits", "shapes"}
    dataset = used["digits"].dataset
    assert dataset.digest == ("ab" * 32)[:36]
    assert json.loads(dataset.source) == {"spec": "digits"}
    assert json.loads(dataset.profile) == {"images": 896, "classes": 10, "source": "digits"}
    assert [(tag.key, tag.value) for tag in used["digits"].tags] == [("mlflow.data.context", "evaluation")]


def test_several_that_write_the_same_new_dataset_at_once(store: TrackingStore) -> None:
    client = store.client()
    runs = [find_or_create_run(client, store.experiment_id, str(i), name="n", tags={}) for i in range(4)]
    clients = [store.client() for _ in runs]
    with ThreadPoolExecutor(len(runs)) as pool:
        for number in range(10):
            dataset = replace(DIGITS, digest=str(number))
            list(pool.map(lambda client, run, used=dataset: log_datasets(client, run, [used]), clients, runs))
    for run in runs:
        inputs = client.get_run(run.info.run_id).inputs.dataset_inputs
        assert sorted(one.dataset.digest for one in inputs) == [str(number) for number in range(10)]
