"""Statistics of accuracy curves: intervals, paired comparisons, critical scales, controls, meta-analysis."""

from semscale.analysis.contrasts import MARGIN, Trend
from semscale.analysis.control import PairedComparison, addition_effects, compare_with_control
from semscale.analysis.curve import CurveSummary, conclude
from semscale.analysis.intervals import change_interval, holm, mcnemar_p, wilson_interval
from semscale.analysis.meta_analysis import RandomEffects, random_effects, summarise_datasets

__all__ = [
    "MARGIN", "CurveSummary", "PairedComparison", "RandomEffects", "Trend", "addition_effects", "change_interval",
    "compare_with_control", "conclude", "holm", "mcnemar_p", "random_effects", "summarise_datasets", "wilson_interval",
]  # fmt: skip
