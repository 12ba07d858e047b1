"""Runs with a deterministic key: found again instead of made twice, completed instead of doubled."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, RunTag
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from semscale.tracking.filters import filter_of

# MLflow refuses more metrics than this in one call
_METRICS_PER_CALL = 1000
_RUNS_PER_PAGE = 1000
KEY = "semscale_key"

MetricPoints = Mapping[tuple[str, int], float]
"""(metric name, step) -> value."""


def find_or_create_run(
    client: Any,
    experiment_id: str,
    key: str,
    *,
    name: str,
    tags: Mapping[str, str],
    parent: str | None = None,
) -> Any:
    """Return the run with this key, made if there is none.

    A key holds the digest of the results that the run records, so that an interrupted or repeated sweep finds its own
    runs and another result never ends up in an old run.

    Args:
        client: an MlflowClient.
        experiment_id: the experiment to look in.
        key: the run's identity, kept in its tag ``semscale_key``.
        name: what the UI shows.
        tags: further tags.
        parent: run id of the parent, which makes the UI nest it.

    Returns:
        The mlflow Run.
    """
    found = client.search_runs([experiment_id], filter_of(**{KEY: key}), max_results=1)
    return found[0] if found else create_run(client, experiment_id, key, name=name, tags=tags, parent=parent)


def create_run(
    client: Any, experiment_id: str, key: str, *, name: str, tags: Mapping[str, str], parent: str | None = None
) -> Any:
    """Make a run with this key, for a caller who knows that there is none; arguments as of the one above."""
    everything = {KEY: key, **tags}
    if parent is not None:
        everything[MLFLOW_PARENT_RUN_ID] = parent
    return client.create_run(experiment_id, run_name=name, tags=everything)


def find_runs(client: Any, experiment_id: str, tags: Mapping[str, str]) -> dict[str, Any]:
    """Return key -> run of the runs with these tags, in as few questions as their number allows.

    Args:
        client: an MlflowClient.
        experiment_id: the experiment to look in.
        tags: what the runs must have.
    """
    return {run.data.tags[KEY]: run for run in _runs(client, experiment_id, tags)}


def delete_doubles(client: Any, experiment_id: str, tags: Mapping[str, str], kept: Mapping[str, str]) -> None:
    """Delete what came of requests to make a run that seemed to be lost, and were carried out later.

    Args:
        client: an MlflowClient.
        experiment_id: the experiment to look in.
        tags: what the runs must have.
        kept: key -> id of the runs that hold the results; others with one of these keys are deleted.
    """
    for run in _runs(client, experiment_id, tags):
        if kept.get(run.data.tags[KEY], run.info.run_id) != run.info.run_id:
            client.delete_run(run.info.run_id)


def _runs(client: Any, experiment_id: str, tags: Mapping[str, str]) -> list[Any]:
    found: list[Any] = []
    token = None
    while True:
        page = client.search_runs([experiment_id], filter_of(**tags), max_results=_RUNS_PER_PAGE, page_token=token)
        found += [run for run in page if KEY in run.data.tags]
        token = page.token
        if not token:
            return found


def is_finished(run: Any) -> bool:
    """Tell whether the run was completed before."""
    return bool(run.info.status == "FINISHED")


def complete_run(
    client: Any,
    run: Any,
    *,
    params: Mapping[str, Any],
    metrics: MetricPoints,
    files: Mapping[str, bytes],
    tags: Mapping[str, str] | None = None,
) -> None:
    """Fill a run and finish it; what an interrupted attempt already wrote is not written again.

    Args:
        client: an MlflowClient.
        run: from :func:`find_or_create_run`.
        params: written as strings.
        metrics: values by name and step.
        files: artifact path -> content.
        tags: what is known of the run only now.
    """
    run_id = run.info.run_id
    written = _points_of(client, run)
    now = int(time.time() * 1000)
    missing = [
        Metric(metric_name(name), float(value), now, step)
        for (name, step), value in metrics.items()
        if (metric_name(name), step) not in written
    ]
    entries = [Param(name, str(value)) for name, value in params.items()]
    words = [RunTag(name, value) for name, value in (tags or {}).items()]
    for start in range(0, max(len(missing), 1), _METRICS_PER_CALL):
        batch = missing[start : start + _METRICS_PER_CALL]
        first = start == 0
        client.log_batch(run_id, metrics=batch, params=entries if first else [], tags=words if first else [])
    with tempfile.TemporaryDirectory(prefix="semscale-") as folder:
        for path, content in files.items():
            target = Path(folder) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        # the run says where its artifacts are; the client would ask for the whole run again
        get_artifact_repository(run.info.artifact_uri, tracking_uri=client.tracking_uri).log_artifacts(folder)
    client.set_terminated(run_id, "FINISHED")


def metric_name(name: str) -> str:
    """Return the name with everything that MLflow refuses in a metric replaced by an underscore.

    >>> metric_name("class_accuracy/crème brûlée (hot)")
    'class_accuracy/cr_me br_l_e _hot_'
    """
    return re.sub(r"[^A-Za-z0-9_\-. :/]", "_", name)


def _points_of(client: Any, run: Any) -> set[tuple[str, int]]:
    # a run that was only just made has no metrics, and then this asks nothing
    return {
        (name, point.step) for name in run.data.metrics for point in client.get_metric_history(run.info.run_id, name)
    }
