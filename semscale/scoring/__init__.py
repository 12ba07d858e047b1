"""The fused ladder kernel, its aggregations, and the metrics of a trial."""

from semscale.scoring.aggregations import LOGIT_SCALE
from semscale.scoring.calibration import expected_calibration_error
from semscale.scoring.kernel import (
    AGGREGATIONS,
    BLOCK,
    LadderScores,
    block_ranges,
    join_scores,
    score_aggregations,
    score_ladder,
)
from semscale.scoring.metrics import TrialMetrics, trial_metrics
from semscale.scoring.statistics import CategoryStatistics, category_statistics
from semscale.scoring.tally import RunningStatistics, nearest_category

__all__ = [
    "AGGREGATIONS",
    "BLOCK",
    "LOGIT_SCALE",
    "CategoryStatistics",
    "LadderScores",
    "RunningStatistics",
    "TrialMetrics",
    "block_ranges",
    "category_statistics",
    "expected_calibration_error",
    "join_scores",
    "nearest_category",
    "score_aggregations",
    "score_ladder",
    "trial_metrics",
]
