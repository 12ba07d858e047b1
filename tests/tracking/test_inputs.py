"""Datasets as inputs of runs: once each, whoever writes them and however often."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from semscale.tracking.runs import DatasetUsed, find_or_create_run, log_datasets
from semscale.tracking.store import TrackingStore, open_store

DIGITS = DatasetUsed("digits", "ab" * 32, "bundled", "digits", 896, 10)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TrackingStore:
    return open_store(None, "semscale", tmp_path_factory.mktemp("inputs"))


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
