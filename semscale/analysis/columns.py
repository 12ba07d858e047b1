"""Conclusions as the columns of tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from semscale.analysis.control import compare_with_control
from semscale.analysis.curve import CurveSummary
from semscale.analysis.patterns import Bool


def summary_columns(summary: CurveSummary) -> dict[str, Any]:
    """Return what ``curves.parquet`` says of a curve besides its name and size, as shares."""
    return {
        "n_orders": summary.n_orders,
        "baseline": summary.baseline,
        "baseline_ci_low": summary.baseline_low,
        "baseline_ci_high": summary.baseline_high,
        "peak": summary.peak,
        "peak_scale": summary.peak_scale,
        "peak_change": summary.peak_change,
        "peak_change_corrected": summary.peak_change_corrected,
        "peak_p": summary.peak_p,
        "final": summary.final,
        "final_change": summary.final_change,
        "final_change_low": summary.final_low,
        "final_change_high": summary.final_high,
        "critical_scale": summary.critical_scale,
        "critical_low": summary.critical_low,
        "critical_high": summary.critical_high,
        "best_form": summary.shapes.best,
        "asymptote": summary.shapes.asymptote,
        "asymptote_low": summary.shapes.asymptote_low,
        "asymptote_high": summary.shapes.asymptote_high,
        "cochran_p": summary.cochran_p,
        "trend": summary.trend,
    }


def difference_table(scales: Sequence[int], arm: Bool, other: Bool) -> pd.DataFrame:
    """Return the paired difference of two curves on the same images: first the mean, a row without a scale.

    With several orders each side draws its own, so for two aggregations of the same orders the intervals are wide.

    Args:
        scales, arm, other: as for :func:`semscale.analysis.control.compare_with_control`.
    """
    found = compare_with_control(scales, arm, other)
    mean = {"scale": None, "difference": found.difference, "low": found.low, "high": found.high, "p": found.p}
    return pd.concat([pd.DataFrame([mean]).astype({"scale": "Int64"}), found.steps.astype({"scale": "Int64"})])
