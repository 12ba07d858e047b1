"""What each kind of run holds: a study its settings, a curve its accuracy by scale, a trial all about one step."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from semscale.report.confusion import confusion_png
from semscale.report.figures import CurveLine, curves_png
from semscale.tracking.runs import complete_run, find_or_create_run, finished_runs, is_finished, metric_name
from semscale.tracking.store import TrackingStore

Row = Mapping[str, Any]

# what identifies a curve, in the order of its run's name
CURVE_COLUMNS = ("dataset", "model", "strategy")
_TRIAL_METRICS = (
    "accuracy",
    "ci_low",
    "ci_high",
    "top5",
    "macro_f1",
    "balanced_accuracy",
    "calibration_error",
    "mean_margin",
    "ceiling",
    "n_correct",
)
_TRIAL_PARAMS = (*CURVE_COLUMNS, "order", "aggregation", "scale", "n_categories", "n_images", "n_classes")
_CURVE_METRICS = (
    "baseline",
    "peak",
    "peak_scale",
    "peak_change",
    "peak_change_corrected",
    "peak_p",
    "final",
    "final_change",
    "critical_scale",
    "critical_low",
    "critical_high",
    "ceiling",
    "asymptote",
    "cochran_p",
)
# more classes than this have their accuracy in class_accuracy.csv only: the UI would drown in charts
_MOST_CLASS_METRICS = 100


def start_study_run(client: Any, store: TrackingStore, key: str, name: str) -> Any:
    """Make or find the run that all curves of a study hang under."""
    tags = {"kind": "study", "study": name}
    return find_or_create_run(client, store.experiment_id, key, name=name, tags=tags)


def finish_study_run(
    client: Any, run: Any, params: Mapping[str, Any], metrics: Mapping[str, float], files: Mapping[str, bytes]
) -> None:
    """Fill the study's run with its settings, its totals and the files of the run directory."""
    complete_run(client, run, params=params, metrics={(name, 0): value for name, value in metrics.items()}, files=files)


def start_curve_run(client: Any, store: TrackingStore, key: str, study: Any, curve: Row, title: str) -> Any:
    """Make or find the run of a curve, under its study; the trials need it as their parent."""
    return find_or_create_run(
        client, store.experiment_id, key, name=title, tags=_tags("curve", study, curve), parent=study.info.run_id
    )


def finish_curve_run(client: Any, run: Any, curve: Row, trials: pd.DataFrame, steps: pd.DataFrame) -> None:
    """Fill the run of a curve: every trial's metrics with step = scale, so that the UI draws the curve.

    Args:
        client: an MlflowClient.
        run: from :func:`start_curve_run`.
        curve: the curve's row of curves.parquet.
        trials: its rows of trials.parquet; the mean over orders is drawn.
        steps: its rows of steps.parquet, by rising scale.
    """
    if is_finished(run):
        return
    means = trials.groupby("scale")[list(_TRIAL_METRICS)].mean()
    points = {
        (name, int(row["scale"])): float(row[name])
        for row in means.reset_index().to_dict("records")
        for name in _TRIAL_METRICS
    }
    intervals = ("ci_low", "ci_high", "band_low", "band_high", "change", "change_low", "change_high")
    points |= {(name, int(row["scale"])): float(row[name]) for row in steps.to_dict("records") for name in intervals}
    # at the last scale, so that the summary stands at the end of the UI's charts
    last = int(steps["scale"].max())
    points |= {(name, last): float(curve[name]) for name in _CURVE_METRICS if not pd.isna(curve[name])}
    line = CurveLine(
        str(curve["strategy"]), steps["scale"].tolist(), steps["accuracy"], steps["band_low"], steps["band_high"]
    )
    kept = (*CURVE_COLUMNS, "aggregation", "n_images", "n_classes", "n_orders", "role", "best_form", "trend")
    params = {name: curve[name] for name in kept}
    files = {
        "curve.png": curves_png([line], f"{curve['dataset']}, {curve['model']}"),
        "trials.csv": trials.to_csv(index=False).encode(),
        "steps.csv": steps.to_csv(index=False).encode(),
    }
    complete_run(client, run, params=params, metrics=points, files=files)


def recorded_trials(client: Any, store: TrackingStore, study_name: str) -> dict[str, str]:
    """Return key -> run id of the trials of a study that are completed already."""
    return finished_runs(client, store.experiment_id, {"kind": "trial", "study": study_name})


def record_trial(
    client: Any,
    store: TrackingStore,
    key: str,
    curve_run_id: str,
    study_name: str,
    title: str,
    trial: Row,
    details: Callable[[], TrialDetails],
) -> str:
    """Record one trial, once.

    Args:
        client: an MlflowClient.
        store: where to.
        key: the trial's key.
        curve_run_id: the parent.
        study_name: for the tag that filters by study.
        title: the name of the curve's run, with which the trial's begins.
        trial: the trial's row of trials.parquet.
        details: computes the label set, the statistics and the confusion matrix; only called for a trial that is
            not recorded yet.

    Returns:
        The run's id.
    """
    tags = {
        "kind": "trial",
        "study": study_name,
        **{name: str(trial[name]) for name in (*CURVE_COLUMNS, "order", "scale")},
    }
    order = f" / o={trial['order']}" if trial["order"] else ""
    name = f"{title}{order} / s={trial['scale']:02d}"
    run = find_or_create_run(client, store.experiment_id, key, name=name, tags=tags, parent=curve_run_id)
    if not is_finished(run):
        detail = details()
        metrics = {(name, int(trial["scale"])): float(trial[name]) for name in _TRIAL_METRICS}
        metrics |= _class_metrics(detail.class_accuracy, int(trial["scale"]))
        complete_run(
            client,
            run,
            params={name: trial[name] for name in _TRIAL_PARAMS},
            metrics=metrics,
            files={
                "categories.json": json.dumps(detail.categories, ensure_ascii=False, indent=1).encode(),
                "category_statistics.csv": detail.statistics.to_csv(index=False).encode(),
                "class_accuracy.csv": detail.class_accuracy.to_csv(index=False).encode(),
                "confusion.png": confusion_png(
                    detail.confusion,
                    detail.class_accuracy["class"].tolist(),
                    f"{name}: {100 * trial['accuracy']:.1f} %",
                ),
            },
        )
    return str(run.info.run_id)


class TrialDetails:
    """The artifacts of a trial: label set, statistics per category, accuracy per class, confusion matrix."""

    def __init__(
        self,
        categories: Mapping[str, Sequence[str]],
        statistics: pd.DataFrame,
        class_accuracy: pd.DataFrame,
        confusion: npt.NDArray[np.int64],
    ) -> None:
        self.categories = categories
        self.statistics = statistics
        self.class_accuracy = class_accuracy
        self.confusion = confusion


def _tags(kind: str, study: Any, curve: Row) -> dict[str, str]:
    tags = {"kind": kind, "study": str(study.data.tags["study"])}
    return tags | {name: str(curve[name]) for name in CURVE_COLUMNS}


def _class_metrics(class_accuracy: pd.DataFrame, step: int) -> dict[tuple[str, int], float]:
    if len(class_accuracy) > _MOST_CLASS_METRICS:
        return {}
    points = {}
    for index, row in enumerate(class_accuracy.to_dict("records")):
        if pd.isna(row["accuracy"]):
            continue  # a class without images in this cut
        name = f"class_accuracy/{row['class']}"
        clean = metric_name(name)
        # names that MLflow cannot spell must not fall together
        points[clean if clean == name else f"{clean}-{index}", step] = float(row["accuracy"])
    return points
