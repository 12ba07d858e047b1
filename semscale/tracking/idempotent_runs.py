"""Idempotent MLflow runs: found again by a deterministic key instead of made twice, completed instead of doubled."""

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

# of MLflow
_METRICS_PER_CALL, _RUNS_PER_PAGE = 1000, 1000
_LONGEST_NAME, _LONGEST_DIGEST, _LONGEST_RUN_NAME = 500, 36, 250
# of a label in a metric's name: longer ones have no room in the UI
_LONGEST_LABEL = 100
KEY = "semscale_key"


@dataclass(frozen=True)
class RunContent:
    """What a run holds: parameters (written as strings), values by metric and step, files by path, tags."""

    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[tuple[str, int], float] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetUsed:
    """The images that a run labels; the digest changes with any image, file name or class, the source has no password.

    `source_type` is `bundled`, `folder`, `zip`, `hf`, ...
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
    # a filter has two kinds of quotes and no way to escape one
    quoted = {name: f'"{value}"' if "'" in value else f"'{value}'" for name, value in tags.items()}
    return " and ".join(f"tags.{name} = {value}" for name, value in quoted.items())


def find_or_create_run(
    client: Any, experiment_id: str, key: str, *, name: str, tags: Mapping[str, str], parent: str | None = None
) -> Any:
    """Return the run with this key, made with a name and tags under a parent's run id if there is none.

    A key holds the digest of the results that the run records, so that an interrupted or repeated sweep finds its own
    runs and another result never ends up in an old run.
    """
    found = client.search_runs([experiment_id], tag_filter(**{KEY: key}), max_results=1)
    return found[0] if found else create_run(client, experiment_id, key, name=name, tags=tags, parent=parent)


def create_run(
    client: Any, experiment_id: str, key: str, *, name: str, tags: Mapping[str, str], parent: str | None = None
) -> Any:
    """Make a run with this key, for a caller who knows that there is none; see :func:`find_or_create_run`."""
    under = {} if parent is None else {MLFLOW_PARENT_RUN_ID: parent}
    if len(name) > _LONGEST_RUN_NAME:  # a database refuses it; its end tells the trials apart
        name = f"{name[:150]}…{name[-50:]}"
    return client.create_run(experiment_id, run_name=name, tags={KEY: key, **tags, **under})


def find_runs(client: Any, experiment_id: str, **tags: str) -> dict[str, Any]:
    """Return key -> run of the runs with these tags, completed or not."""
    return {run.data.tags[KEY]: run for run in _runs(client, experiment_id, tags)}


def delete_duplicate_runs(client: Any, experiment_id: str, kept: Mapping[str, str], **tags: str) -> None:
    """Delete the runs with these tags that have a key of those kept (key -> run id) and another id.

    They come of requests to make a run that seemed to be lost, and were carried out later.
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
    """Tell whether the run was completed before."""
    return bool(run.info.status == "FINISHED")


def complete_run(client: Any, run: Any, content: RunContent) -> None:
    """Fill a run and finish it; what an interrupted attempt already wrote is not written again."""
    run_id = run.info.run_id
    # a run that was only just made has no metrics, and then this asks nothing
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
        # the run says where its artifacts are; the client would ask for the whole run again
        get_artifact_repository(run.info.artifact_uri, tracking_uri=client.tracking_uri).log_artifacts(folder)
    client.set_terminated(run_id, "FINISHED")


def metric_name(name: str) -> str:
    """Return the name as MLflow takes it: with underscores for what it refuses, and a digest where anything changed.

    >>> metric_name("class_accuracy/crème brûlée (hot)"), metric_name("class_accuracy/..")
    ('class_accuracy/cr_me br_l_e _hot_-aa310eae', 'class_accuracy/..-f141f929')
    """
    safe = re.sub(r"[^A-Za-z0-9_\-. :/]", "_", name)
    # a metric is a file in some stores
    if safe == name and not path_not_unique(name) and len(name) <= MAX_ENTITY_KEY_LENGTH:
        return name
    group, slash, rest = safe.partition("/")
    return f"{group}{slash}{rest.replace('/', '_')[:_LONGEST_LABEL]}-{short_digest(name)}"


def log_datasets(client: Any, run: Any, datasets: Sequence[DatasetUsed]) -> None:
    """Make the datasets inputs of a run; what it has already is not written again."""
    known = {(one.dataset.name, one.dataset.digest) for one in (run.inputs.dataset_inputs if run.inputs else ())}
    inputs = [_dataset_input(used) for used in datasets]
    missing = [one for one in inputs if (one.dataset.name, one.dataset.digest) not in known]
    if not missing:
        return
    try:
        client.log_inputs(run.info.run_id, missing)
    except MlflowException as error:
        # two that write a new dataset at the same moment: the slower one is refused, and finds it there the next time
        if error.error_code != "BAD_REQUEST":
            raise
        client.log_inputs(run.info.run_id, missing)


def _dataset_input(used: DatasetUsed) -> DatasetInput:
    # the UI shows the profile, and of sources only those that it knows
    profile = {"images": used.n_images, "classes": used.n_classes, "source": used.source}
    dataset = Dataset(
        name=used.name[:_LONGEST_NAME],
        digest=used.digest[:_LONGEST_DIGEST],
        source_type=used.source_type,
        source=json.dumps({"spec": used.source}, ensure_ascii=False),
        profile=json.dumps(profile, ensure_ascii=False),
    )
    return DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, "evaluation")])
