"""Evaluation of one trial: metrics, statistics and artifacts of one step of a scored ladder."""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import ray

from semscale.analysis.intervals import wilson_interval
from semscale.scoring.category_statistics import category_statistics
from semscale.scoring.metrics import TrialMetrics, trial_metrics
from semscale.study.scoring_stage import LadderKey, ScoredLadder

_CATEGORY_COLUMNS = ("class", "category", "scale", "images", "right")
_METRICS = ("top5", "macro_f1", "balanced_accuracy", "calibration_error", "mean_margin")


@dataclass(frozen=True)
class EvaluatedTrial:
    """Result of a trial, step `k` of a ladder: its row of trials.parquet without the MLflow run id.

    `class_accuracy` by class name and `files` by artifact name are empty unless files were requested.
    """

    k: int
    ladder: LadderKey
    row: dict[str, Any]
    class_accuracy: dict[str, float] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


def evaluate_trial(scored: ScoredLadder, k: int, with_files: bool) -> EvaluatedTrial:
    """Return the result of step k, with the artifacts of its run if requested."""
    classes, scores = scored.ladder.classes, scored.scores
    rank, margin, confidence = scores.true_rank[:, k], scores.margin[:, k], scores.confidence[:, k]
    predicted = scores.predicted_class[:, k]
    metrics = trial_metrics(predicted, scored.true_class, rank, margin, len(classes), confidence)
    row = _row(scored, k, metrics)
    if not with_files:
        return EvaluatedTrial(k, scored.key, row)
    accuracy = dict(zip(classes, metrics.per_class_accuracy.tolist(), strict=True))
    columns = {"class": classes, "n_images": metrics.per_class_images, "accuracy": metrics.per_class_accuracy}
    files = {
        "categories.json": _category_table(scored, k),
        "category_statistics.csv": _statistics(scored, k).to_csv(index=False).encode(),
        "class_accuracy.csv": pd.DataFrame(columns).to_csv(index=False).encode(),
    }
    return EvaluatedTrial(k, scored.key, row, accuracy, files)


def _row(scored: ScoredLadder, k: int, metrics: TrialMetrics) -> dict[str, Any]:
    low, high = wilson_interval(metrics.n_correct, len(scored.true_class))
    first, now = scored.right[:, 0], scored.right[:, k]
    return {
        **scored.columns,
        "scale": int(scored.flat.scales[k]),
        "n_categories": scored.ladder.steps[k].n_categories,
        "n_images": len(scored.true_class),
        "n_classes": len(scored.ladder.classes),
        "n_correct": int(metrics.n_correct),
        "accuracy": float(metrics.accuracy),
        "ci_low": float(low),
        "ci_high": float(high),
        **{name: float(getattr(metrics, name)) for name in _METRICS},
        "ceiling": float(scored.scores.ceiling[:, k].mean()),
        "gained": int((now & ~first).sum()),
        "lost": int((first & ~now).sum()),
    }


def _statistics(scored: ScoredLadder, k: int) -> pd.DataFrame:
    end = int(scored.flat.step_ends[k])
    texts = np.array(scored.flat.texts, dtype=object)
    winner = scored.scores.predicted_category[:, k]
    table = category_statistics(ray.get(scored.images), ray.get(scored.texts)[:end], winner)
    return pd.DataFrame(
        {
            "category": texts[:end],
            "fraction": table.fraction,
            "average_dot_product": table.average_dot_product,
            "variance": table.variance,
            "second_best_category": [texts[index] if index >= 0 else None for index in table.second_best],
        }
    )


def _category_table(scored: ScoredLadder, k: int) -> bytes:
    """Return the categories of step k as an MLflow table: ``{"columns": [...], "data": [[...], ...]}``.

    A row per category, by class and order of addition: class, text, scale of addition, images it won, and how many of
    those are of its class. A repeated text (control `duplicates`) wins none.
    """
    steps, end = scored.ladder.steps[: k + 1], int(scored.flat.step_ends[k])
    winner = scored.scores.predicted_category[:, k]
    won = np.bincount(winner, minlength=end).tolist()
    right = np.bincount(winner[scored.right[:, k]], minlength=end).tolist()
    counts = {text: (won[i], right[i]) for i, text in enumerate(scored.flat.texts[:end])}
    rows = []
    for name in scored.ladder.classes:
        ends = [len(step.categories[name]) for step in steps]
        for number, text in enumerate(steps[-1].categories[name]):
            scale = steps[bisect_right(ends, number)].scale
            rows.append((name, text, scale, *counts.pop(text, (0, 0))))
    return json.dumps({"columns": _CATEGORY_COLUMNS, "data": rows}, ensure_ascii=False, separators=(",", ":")).encode()
