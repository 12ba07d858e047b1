"""One trial: the metrics, statistics and artifacts of one step of a scored ladder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import ray

from semscale.analysis.intervals import wilson_interval
from semscale.scoring.metrics import TrialMetrics, trial_metrics
from semscale.scoring.statistics import category_statistics
from semscale.sweep.score import ScoredLadder
from semscale.tracking.records import TrialDetails


def evaluate_step(scored: ScoredLadder, k: int) -> dict[str, Any]:
    """Return the row of trials.parquet for step k of a ladder, without the MLflow run id."""
    metrics = _metrics(scored, k)
    low, high = wilson_interval(metrics.n_correct, len(scored.true_class))
    first, now = scored.right[:, 0], scored.right[:, k]
    return {
        **scored.columns,
        "aggregation": scored.aggregation,
        "scale": int(scored.flat.scales[k]),
        "n_categories": scored.ladder.steps[k].n_categories,
        "n_images": len(scored.true_class),
        "n_classes": len(scored.ladder.classes),
        "n_correct": int(metrics.n_correct),
        "accuracy": float(metrics.accuracy),
        "ci_low": float(low),
        "ci_high": float(high),
        "top5": float(metrics.top5),
        "macro_f1": float(metrics.macro_f1),
        "balanced_accuracy": float(metrics.balanced_accuracy),
        "calibration_error": float(metrics.calibration_error),
        "mean_margin": float(metrics.mean_margin),
        "ceiling": float(scored.ceiling[:, k].mean()),
        "gained": int((now & ~first).sum()),
        "lost": int((first & ~now).sum()),
    }


def trial_details(scored: ScoredLadder, k: int) -> TrialDetails:
    """Compute the artifacts of step k: the label set, the statistics per category, and the confusion matrix."""
    metrics = _metrics(scored, k)
    end = int(scored.flat.step_ends[k])
    table = category_statistics(
        ray.get(scored.images), ray.get(scored.texts)[:end], scored.scores.predicted_category[:, k]
    )
    texts = np.array(scored.flat.texts, dtype=object)
    second = [texts[index] if index >= 0 else None for index in table.second_best]
    statistics = pd.DataFrame(
        {
            "category": texts[:end],
            "fraction": table.fraction,
            "average_dot_product": table.average_dot_product,
            "variance": table.variance,
            "second_best_category": second,
        }
    )
    class_accuracy = pd.DataFrame(
        {
            "class": scored.ladder.classes,
            "n_images": metrics.confusion.sum(axis=1),
            "accuracy": metrics.per_class_accuracy,
        }
    )
    categories = {name: list(texts) for name, texts in scored.ladder.steps[k].categories.items()}
    return TrialDetails(categories, statistics, class_accuracy, metrics.confusion)


def _metrics(scored: ScoredLadder, k: int) -> TrialMetrics:
    return trial_metrics(
        scored.scores.predicted_class[:, k],
        scored.true_class,
        scored.scores.true_rank[:, k],
        scored.scores.margin[:, k],
        len(scored.ladder.classes),
        scored.scores.confidence[:, k],
    )
