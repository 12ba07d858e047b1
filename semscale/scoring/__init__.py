"""Scoring: the fused ladder kernel, its aggregations, and the metrics of a trial."""

from semscale.scoring.aggregations import AGGREGATIONS, LOGIT_SCALE
from semscale.scoring.category_statistics import CategoryStatistics, RunningStatistics, category_statistics
from semscale.scoring.kernel import (
    BLOCK,
    LadderInputs,
    LadderScores,
    ScoreOptions,
    block_ranges,
    join_scores,
    score_aggregations,
    score_ladder,
)
from semscale.scoring.metrics import TrialMetrics, expected_calibration_error, trial_metrics
from semscale.scoring.nearest import nearest_categories

__all__ = [
    "AGGREGATIONS",
    "BLOCK",
    "LOGIT_SCALE",
    "CategoryStatistics",
    "LadderInputs",
    "LadderScores",
    "RunningStatistics",
    "ScoreOptions",
    "TrialMetrics",
    "block_ranges",
    "category_statistics",
    "expected_calibration_error",
    "join_scores",
    "nearest_categories",
    "score_aggregations",
    "score_ladder",
    "trial_metrics",
]
