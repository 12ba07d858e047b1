"""Stage 4: what the trials of each curve say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from semscale.analysis.curve import conclude
from semscale.sweep.progress import Stage
from semscale.sweep.score import ScoredLadder
from semscale.tracking.records import finish_curve_run

Place = tuple[str, str, str]


def conclude_curves(ladders: Sequence[ScoredLadder], margin: float, curve_runs: Mapping[Place, str]) -> pd.DataFrame:
    """Return curves.parquet: one row per curve.

    Args:
        ladders: the scored ladders.
        margin: gains below this do not count, as a fraction.
        curve_runs: MLflow run id by (dataset, model, strategy).
    """
    rows = []
    for scored in ladders:
        summary = conclude(scored.flat.scales, scored.scores.true_rank == 0, margin=margin)
        rows.append(
            {
                "dataset": scored.dataset,
                "model": scored.model,
                "strategy": scored.strategy,
                "order": scored.order,
                "aggregation": scored.aggregation,
                "n_images": summary.n_images,
                "n_classes": len(scored.ladder.classes),
                "baseline": summary.baseline,
                "baseline_ci_low": summary.baseline_low,
                "baseline_ci_high": summary.baseline_high,
                "peak": summary.peak,
                "peak_scale": summary.peak_scale,
                "peak_change": summary.peak_change,
                "final": summary.final,
                "final_change": summary.final_change,
                "critical_scale": summary.critical_scale,
                "trend": summary.trend,
                "mlflow_run_id": curve_runs[scored.dataset, scored.model, scored.strategy],
            }
        )
    return pd.DataFrame(rows)


def finish_curves(
    client: Any, runs: Mapping[Place, Any], curves: pd.DataFrame, trials: pd.DataFrame, stage: Stage
) -> None:
    """Fill the MLflow run of every curve from its trials."""
    rows: list[dict[str, Any]] = curves.to_dict("records")  # type: ignore[assignment]  # its keys are column names
    for done, curve in enumerate(rows, start=1):
        mine = trials
        for column in ("dataset", "model", "strategy", "order"):
            mine = mine[mine[column] == curve[column]]
        finish_curve_run(client, runs[curve["dataset"], curve["model"], curve["strategy"]], curve, mine)
        stage(done, len(curves))
