"""Intervals, paired comparisons, and the conclusions of a curve."""

from semscale.analysis.curve import MARGIN, CurveSummary, Trend, conclude, critical_scale, name_trend
from semscale.analysis.intervals import wilson_interval
from semscale.analysis.paired import PairedCounts, mcnemar_p, paired_counts

__all__ = [
    "MARGIN",
    "CurveSummary",
    "PairedCounts",
    "Trend",
    "conclude",
    "critical_scale",
    "mcnemar_p",
    "name_trend",
    "paired_counts",
    "wilson_interval",
]
