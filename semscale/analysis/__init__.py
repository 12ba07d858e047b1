"""Intervals, paired comparisons, and what curves say, alone, against a control and over several datasets."""

from semscale.analysis.across import RandomEffects, random_effects, summarise_datasets
from semscale.analysis.additions import addition_effects
from semscale.analysis.control import Comparison, compare_with_control
from semscale.analysis.critical import MARGIN
from semscale.analysis.curve import CurveSummary, conclude
from semscale.analysis.intervals import wilson_interval
from semscale.analysis.paired import change_interval, holm, mcnemar_p
from semscale.analysis.trend import Trend

__all__ = [
    "MARGIN",
    "Comparison",
    "CurveSummary",
    "RandomEffects",
    "Trend",
    "addition_effects",
    "change_interval",
    "compare_with_control",
    "conclude",
    "holm",
    "mcnemar_p",
    "random_effects",
    "summarise_datasets",
    "wilson_interval",
]
