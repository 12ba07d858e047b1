"""Idempotent MLflow runs: found by a deterministic key and completed instead of created twice."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID
from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH, path_not_unique

from semscale.common.text import short_digest

# limits of MLflow
_METRICS_PER_CALL, _RUNS_PER_PAGE = 1000, 1000
_MAX_DATASET_NAME, _MAX_DIGEST, _MAX_RUN_NAME = 500, 36, 250
# of a label in a metric's name, for the UI
_MAX_LABEL = 100
KEY = "semscale_key"


@dataclass(frozen=True)
class RunContent:
    """Content of a run: parameters (stored as strings), values by metric and step, artifacts by path, tags."""

    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[tuple[str, int], float] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetUsed:
    """Dataset input of a run: the labelled images; the digest changes with any image, file name or class.

    `source_type` is `bundled`, `folder`, `zip`, `hf`, ...; `source` contains no password.
    """

    name: str
    digest: str
    source_type: str
    source: str
    n_images: int
    n_classes: int


def tag_filter(**tags: str) -> str:
    """Return the filter for runs with these tags.

    >>> tag_filter(kind="curve", dataset="Ann's")
    'tags.kind = \\'curve\\' and tags.dataset = "Ann\\'s"'
    """
    # filters have two kinds of quotes and no escapes
    quoted = {name: f'"{value}"' if "'" in value else f"'{value}'" for name, value in tags.items()}
    return " and ".join(f"tags.{name} = {value}" for name, value in quoted.items())


def find_or_create_run(
    client: Any, experiment_id: str, key: str, *, name: str, tags: Mapping[str, str], parent: str | None = None
) -> Any:
    """Return the run with this key, created with name, tags and the parent's run id if none exists.

    A key contains a digest of the recorded results: an interrupted or repeated sweep finds its runs, and other results
    never end up in an old run.
    """
    runs = client.search_runs([experiment_id], tag_filter(**{KEY: key}), max_results=1)
    return runs[0] if runs else create_run(client, experiment_id, key, name=name, tags=tags, parent=parent)


def create_run(
    client: Any, experiment_id: str, key: str, *, name: str, tags: Mapping[str, str], parent: str | None = None
) -> Any:
    """Create a run with this key, which must not exist; see :func:`find_or_create_run`."""
    parent_tag = {} if parent is None else {MLFLOW_PARENT_RUN_ID: parent}
    if len(name) > _MAX_RUN_NAME:  # rejected by databases; the end distinguishes trials
        name = f"{name[:150]}…{name[-50:]}"
    return client.create_run(experiment_id, run_name=name, tags={KEY: key, **tags, **parent_tag})


def find_runs(client: Any, experiment_id: str, **tags: str) -> dict[str, Any]:
    """Return key -> run for the runs with these tags, finished or not."""
    return {run.data.tags[KEY]: run for run in _runs(client, experiment_id, tags)}


def delete_duplicate_runs(client: Any, experiment_id: str, kept: Mapping[str, str], **tags: str) -> None:
    """Delete the runs with these tags whose key is in `kept` (key -> run id) under another id.

    They come from requests to create a run that seemed lost and were executed later.
    """
    for run in _runs(client, experiment_id, tags):
        if kept.get(run.data.tags[KEY], run.info.run_id) != run.info.run_id:
            client.delete_run(run.info.run_id)


def _runs(client: Any, experiment_id: str, tags: Mapping[str, str]) -> list[Any]:
    runs, token = [], None
    while token != "":
        page = client.search_runs([experiment_id], tag_filter(**tags), max_results=_RUNS_PER_PAGE, page_token=token)
        runs += [run for run in page if KEY in run.data.tags]
        token = page.token or ""
    return runs


def is_finished(run: Any) -> bool:
    """Return whether the run is complete."""
    return bool(run.info.status == "FINISHED")


def complete_run(client: Any, run: Any, content: RunContent) -> None:
    """Log the content of a run and finish it; metrics that an interrupted attempt logged are not repeated."""
    run_id = run.info.run_id
    # no request for a new run, which has no metrics
    written = {(name, point.step) for name in run.data.metrics for point in client.get_metric_history(run_id, name)}
    now = int(time.time() * 1000)
    points = {(metric_name(name), step): float(value) for (name, step), value in content.metrics.items()}
    missing = [Metric(name, value, now, step) for (name, step), value in points.items() if (name, step) not in written]
    params = [Param(name, str(value)) for name, value in content.params.items()]
    tags = [RunTag(name, value) for name, value in content.tags.items()]
    client.log_batch(run_id, metrics=missing[:_METRICS_PER_CALL], params=params, tags=tags)
    for start in range(_METRICS_PER_CALL, len(missing), _METRICS_PER_CALL):
        client.log_batch(run_id, metrics=missing[start : start + _METRICS_PER_CALL])
    with tempfile.TemporaryDirectory(prefix="semscale-") as folder:
        for path, bytes_ in content.files.items():
            target = Path(folder) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(bytes_)
        # without the client, which would request the run again
        get_artifact_repository(run.info.artifact_uri, tracking_uri=client.tracking_uri).log_artifacts(folder)
    client.set_terminated(run_id, "FINISHED")


def metric_name(name: str) -> str:
    """Return a valid metric name: underscores replace characters that MLflow rejects, and a changed name has a digest.

    >>> metric_name("class_accuracy/crème brûlée (hot)"), metric_name("class_accuracy/..")
    ('class_accuracy/cr_me br_l_e _hot_-aa310eae', 'class_accuracy/..-f141f929')
    """
    safe = re.sub(r"[^A-Za-z0-9_\-. :/]", "_", name)
    # a metric is a file in some stores
    if safe == name and not path_not_unique(name) and len(name) <= MAX_ENTITY_KEY_LENGTH:
        return name
    group, slash, label = safe.partition("/")
    return f"{group}{slash}{label.replace('/', '_')[:_MAX_LABEL]}-{short_digest(name)}"


def log_datasets(client: Any, run: Any, datasets: Sequence[DatasetUsed]) -> None:
    """Log datasets as inputs of a run; those that it has are not repeated."""
    existing = {(one.dataset.name, one.dataset.digest) for one in (run.inputs.dataset_inputs if run.inputs else ())}
    inputs = [_dataset_input(used) for used in datasets]
    missing = [one for one in inputs if (one.dataset.name, one.dataset.digest) not in existing]
    if not missing:
        return
    try:
        client.log_inputs(run.info.run_id, missing)
    except MlflowException as error:
        # of two concurrent writers of a new dataset one is rejected; its next attempt finds the dataset
        if error.error_code != "BAD_REQUEST":
            raise
        client.log_inputs(run.info.run_id, missing)


def _dataset_input(used: DatasetUsed) -> DatasetInput:
    # the UI shows the profile, and only sources of types that it knows
    profile = {"images": used.n_images, "classes": used.n_classes, "source": used.source}
    dataset = Dataset(
        name=used.name[:_MAX_DATASET_NAME],
        digest=used.digest[:_MAX_DIGEST],
        source_type=used.source_type,
        source=json.dumps({"spec": used.source}, ensure_ascii=False),
        profile=json.dumps(profile, ensure_ascii=False),
    )
    return DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, "evaluation")])
