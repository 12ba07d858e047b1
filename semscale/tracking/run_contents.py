"""Contents of the runs: settings of a study, accuracy by scale of a curve, results of one step of a trial.

The tags, parameters, metrics and artifacts are listed in README.md of this package.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS, MLFLOW_RUN_NOTE

from semscale.report.headlines import CURVE_KEY, Headline
from semscale.tracking.descriptions import describe_curve, describe_trial
from semscale.tracking.idempotent_runs import (
    DatasetUsed,
    RunContent,
    complete_run,
    create_run,
    find_or_create_run,
    is_finished,
    log_datasets,
)
from semscale.tracking.tracking_store import TrackingStore

Row = Mapping[Any, Any]

_TRIAL_METRICS = (
    "accuracy", "ci_low", "ci_high", "top5", "macro_f1", "balanced_accuracy", "calibration_error", "mean_margin",
    "ceiling", "n_correct",
)  # fmt: skip
_TRIAL_PARAMS = (*CURVE_KEY, "order", "scale", "n_categories", "n_images", "n_classes")
_STEP_METRICS = ("ci_low", "ci_high", "band_low", "band_high", "change", "change_low", "change_high")
_CURVE_METRICS = (
    "baseline", "peak", "peak_scale", "peak_change", "peak_change_corrected", "peak_p", "final", "final_change",
    "critical_scale", "critical_low", "critical_high", "ceiling", "asymptote", "cochran_p",
)  # fmt: skip
_CURVE_PARAMS = (*CURVE_KEY, "n_images", "n_classes", "n_orders", "role", "best_form", "trend")
# the UI shows the file as a table; MLflow's log_table would append to it when repeated
_TABLES = json.dumps([{"path": "categories.json", "type": "table"}])
# with more classes their accuracy is in class_accuracy.csv only, for the UI draws a chart per metric
_MAX_CLASS_METRICS = 100


def start_study_run(client: Any, store: TrackingStore, key: str, name: str) -> Any:
    """Return the run of a study, the parent of its curve runs, found or created."""
    tags = {"kind": "study", "study": name}
    return find_or_create_run(client, store.experiment_id, key, name=name, tags=tags)


def finish_study_run(client: Any, run: Any, content: RunContent, datasets: Sequence[DatasetUsed] = ()) -> None:
    """Complete the run of a study with its datasets, settings, totals, note and the files of the run directory."""
    run = client.get_run(run.info.run_id)  # a failed attempt may have written to it
    log_datasets(client, run, datasets)
    complete_run(client, run, content)


def start_curve_run(
    client: Any, study: Any, key: str, title: str, curve: Row, dataset: DatasetUsed | None = None
) -> Any:
    """Return the run of a curve under its study's run, the parent of its trial runs, found or created.

    The dataset is logged here first, so that concurrently recorded trials find it in MLflow.
    """
    tags = {"kind": "curve", "study": str(study.data.tags["study"]), **{name: str(curve[name]) for name in CURVE_KEY}}
    parent = study.info.run_id
    run = find_or_create_run(client, study.info.experiment_id, key, name=title, tags=tags, parent=parent)
    log_datasets(client, run, [dataset] if dataset else [])
    return run


@dataclass(frozen=True)
class CurveRecord:
    """Content of a curve's run: its row of curves.parquet, its trials, its steps by rising scale.

    `pictures` returns the figures by file name; it is called only if the run is not finished.
    """

    row: Row
    trials: pd.DataFrame
    steps: pd.DataFrame
    headline: Headline
    pictures: Callable[[], Mapping[str, bytes]] = field(default=dict)


def finish_curve_run(client: Any, run: Any, record: CurveRecord) -> None:
    """Complete the run of a curve: the trials' metrics, averaged over orders, with step = scale."""
    run = client.get_run(run.info.run_id)  # a failed attempt may have written to it
    if is_finished(run):
        return
    curve, trials, steps = record.row, record.trials, record.steps
    means = trials.groupby("scale")[list(_TRIAL_METRICS)].mean().reset_index()
    metrics = {
        (name, int(row["scale"])): float(row[name])
        for table, names in ((means, _TRIAL_METRICS), (steps, _STEP_METRICS))
        for row in table.to_dict("records")
        for name in names
    }
    # the summary is logged at the last scale, the end of the UI's charts
    last = int(steps["scale"].max())
    metrics |= {(name, last): float(curve[name]) for name in _CURVE_METRICS if not pd.isna(curve[name])}
    files = {
        "trials.csv": trials.to_csv(index=False).encode(),
        "steps.csv": steps.to_csv(index=False).encode(),
        **record.pictures(),
    }
    tags = {"role": str(curve["role"]), "verdict": record.headline.verdict, "trend": str(curve["trend"])}
    tags[MLFLOW_RUN_NOTE] = describe_curve(curve, steps, record.headline, str(run.data.tags["study"]))
    complete_run(client, run, RunContent({name: curve[name] for name in _CURVE_PARAMS}, metrics, files, tags))


@dataclass(frozen=True)
class TrialRecord:
    """Content of a trial's run: its key, its curve's run id, its name, its row of trials.parquet.

    `class_accuracy` by class name is nan without images; the dataset is in MLflow already, logged with the curve.
    """

    key: str
    parent: str
    name: str
    row: Row
    class_accuracy: Mapping[str, float]
    files: Mapping[str, bytes]
    dataset: DatasetUsed | None = None

    def tags(self, study_name: str) -> dict[str, str]:
        """Return the tags of the run."""
        columns = {name: str(self.row[name]) for name in (*CURVE_KEY, "order", "scale")}
        ui_tags = {MLFLOW_RUN_NOTE: describe_trial(self.row), MLFLOW_LOGGED_ARTIFACTS: _TABLES}
        return {"kind": "trial", "study": study_name, **columns, **ui_tags}


def record_trial(
    client: Any, store: TrackingStore, study_name: str, trial: TrialRecord, run: Any = None, *, may_exist: bool = True
) -> str:
    """Record a trial, in `run` if it is known, and return its run id; a finished run is left unchanged."""
    if run is None:
        get_run = find_or_create_run if may_exist else create_run
        tags = trial.tags(study_name)
        run = get_run(client, store.experiment_id, trial.key, name=trial.name, tags=tags, parent=trial.parent)
    if not is_finished(run):
        log_datasets(client, run, [trial.dataset] if trial.dataset else [])
        row, scale = trial.row, int(trial.row["scale"])
        # also as metrics: filters compare only metrics as numbers
        metrics = {(name, scale): float(row[name]) for name in (*_TRIAL_METRICS, "scale", "n_categories")}
        metrics |= _class_metrics(trial.class_accuracy, scale)
        complete_run(client, run, RunContent({name: row[name] for name in _TRIAL_PARAMS}, metrics, trial.files))
    return str(run.info.run_id)


def _class_metrics(class_accuracy: Mapping[str, float], step: int) -> dict[tuple[str, int], float]:
    if len(class_accuracy) > _MAX_CLASS_METRICS:
        return {}
    known = {name: float(accuracy) for name, accuracy in class_accuracy.items() if not math.isnan(accuracy)}
    return {(f"class_accuracy/{name}", step): accuracy for name, accuracy in known.items()}
