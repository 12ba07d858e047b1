"""Conclusions of a curve: baseline, peak, end, trend and critical scale, from the correctness of each prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from semscale.analysis.answer_patterns import Bool, CorrectnessPatterns, Float64, count_patterns
from semscale.analysis.bootstrap import REPLICATES, resample
from semscale.analysis.contrasts import MARGIN, Contrasts, Trend, classify_trend, contrasts, critical_scale
from semscale.analysis.curve_models import fit_curve_models
from semscale.analysis.intervals import wilson_interval
from semscale.analysis.peak import Peak, find_peak
from semscale.analysis.step_tests import cochran_q, compare_steps


@dataclass(frozen=True)
class CurveSummary:
    """The conclusions of one curve; accuracies are shares from 0 to 1, changes are differences of shares.

    Attributes:
        n_images, n_orders: images of every step, and orders of the categories; with several orders accuracies are means
            over orders and the intervals include the variance between orders.
        baseline: accuracy at the first step with its 95 % interval (Wilson).
        peak, peak_scale: highest accuracy and the smallest scale that reaches it.
        peak_change: peak - baseline; never negative, and as a maximum over steps biased upwards.
        peak_change_corrected, peak_p: see :class:`semscale.analysis.peak.Peak`.
        final, final_change: accuracy at the last step, and its difference to the baseline with its paired 95 %
            interval.
        critical_scale: see :func:`semscale.analysis.contrasts.critical_scale`; None where no step but the last
            qualifies.
        best_form, asymptote: see :class:`semscale.analysis.curve_models.CurveModelFits`.
        cochran_p: p of Cochran's Q, the test of equal accuracies at all steps.
        trend: see :func:`semscale.analysis.contrasts.classify_trend`.
        ever_correct: share of images labelled correctly at one step at least (in any order), the upper bound of every
            choice among the steps.
        steps: a row per step, see :func:`step_table`.
    """

    n_images: int
    n_orders: int
    baseline: float
    baseline_ci_low: float
    baseline_ci_high: float
    peak: float
    peak_scale: int
    peak_change: float
    peak_change_corrected: float
    peak_p: float
    final: float
    final_change: float
    final_change_low: float
    final_change_high: float
    critical_scale: int | None
    critical_low: int
    critical_high: int
    best_form: str
    asymptote: float | None
    asymptote_low: float | None
    asymptote_high: float | None
    cochran_p: float
    trend: Trend
    ever_correct: float
    steps: pd.DataFrame

    def columns(self) -> dict[str, Any]:
        """Return the columns of ``curves.parquet`` besides the name and the size of the curve."""
        others = ("n_images", "ever_correct", "steps")
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in others}


def conclude(
    scales: Sequence[int], correct: Bool, margin: float = MARGIN, replicates: int = REPLICATES, seed: int = 0
) -> CurveSummary:
    """Return the conclusions of a curve.

    Args:
        scales: the S scales, increasing.
        correct: bool[n, S], whether each image is labelled correctly at each step, the same images at all steps; or
            bool[O, n, S] for O orders of the categories.
        margin: smallest change of interest, a share.
        replicates: of the bootstrap and of the permutations.
        seed: of the generator; the result is deterministic.

    Raises:
        ValueError: no image or step, or the shapes do not match.

    >>> correct = np.zeros((1000, 3), dtype=bool)
    >>> correct[:700, 0] = correct[:800, 1] = correct[:800, 2] = True
    >>> summary = conclude([1, 2, 3], correct)
    >>> summary.baseline, summary.peak, summary.peak_scale, summary.trend, summary.critical_scale
    (0.7, 0.8, 2, 'rise-plateau', 2)
    """
    rows = np.asarray(correct, dtype=np.bool_)
    if rows.ndim not in (2, 3) or not rows.size or rows.shape[-1] != len(scales):
        raise ValueError(f"expected correct[images, {len(scales)} steps], but got {list(rows.shape)}")
    patterns = count_patterns(rows)
    curves = resample(patterns, replicates, seed)
    pairwise = contrasts(patterns, curves)
    steps = step_table(scales, patterns, curves, pairwise)
    # another stream than the bootstrap's, or permutations and replicates would share their draws
    peak = find_peak(patterns, curves, replicates, seed + 1)
    critical, models = critical_scale(scales, pairwise, margin), fit_curve_models(scales, patterns, curves)
    return CurveSummary(
        **shared_conclusions(patterns, steps, peak),
        n_orders=patterns.n_orders,
        peak_scale=int(steps["scale"].iloc[peak.step]),
        critical_scale=critical.scale,
        critical_low=critical.low,
        critical_high=critical.high,
        best_form=models.best,
        asymptote=models.asymptote,
        asymptote_low=models.asymptote_low,
        asymptote_high=models.asymptote_high,
        trend=classify_trend(pairwise, margin),
        steps=steps,
    )


def shared_conclusions(patterns: CorrectnessPatterns, steps: pd.DataFrame, peak: Peak) -> dict[str, Any]:
    """Return the fields that the summaries of category curves and of token curves share, from the rows of the steps."""
    first, last = steps.iloc[0], steps.iloc[-1]
    return {
        "n_images": patterns.n_images,
        "baseline": float(first["accuracy"]),
        "baseline_ci_low": float(first["ci_low"]),
        "baseline_ci_high": float(first["ci_high"]),
        "peak": float(steps["accuracy"].iloc[peak.step]),
        "peak_change": peak.change,
        "peak_change_corrected": peak.corrected,
        "peak_p": peak.p,
        "final": float(last["accuracy"]),
        "final_change": float(last["change"]),
        "final_change_low": float(last["change_low"]),
        "final_change_high": float(last["change_high"]),
        "cochran_p": cochran_q(patterns).p,
        "ever_correct": float(patterns.counts @ patterns.rows.any(axis=(1, 2)) / patterns.n_images),
    }


def step_table(
    scales: Sequence[int], patterns: CorrectnessPatterns, curves: Float64, pairwise: Contrasts
) -> pd.DataFrame:
    """Return a row per step.

    Columns: scale; n_correct (over all orders) and accuracy; ci_low, ci_high (95 %, Wilson, pointwise) and band_low,
    band_high (95 %, simultaneous: Wilson's interval with the bootstrap's sup-t quantile); change from the first step
    with change_low, change_high (95 %, paired, pointwise) and change_band_low, change_band_high (simultaneous); gained
    and lost images against the first step with mcnemar_p and mcnemar_p_holm; the same against the step before, prefixed
    with `previous_`.
    """
    accuracy = patterns.accuracy()
    size = _effective_sample_size(patterns, curves)
    low, high = wilson_interval(accuracy * size, size)
    error = np.sqrt(np.maximum(accuracy * (1 - accuracy) / size, 0.25 / size**2))
    sup_t = float(np.quantile((np.abs(curves - accuracy) / error).max(axis=1), 0.95))
    # A simultaneous band is nowhere narrower than the pointwise interval. Where every image is correct at every step
    # (or none is), all replicates are equal, and the bootstrap would give a band of width 0.
    sup_t = max(sup_t, float(ndtri(0.975)))
    band_low, band_high = wilson_interval(accuracy * size, size, 2 * float(ndtr(sup_t)) - 1)
    change_low, change_high = pairwise.pointwise()
    change_band_low, change_band_high = pairwise.band_from_first()
    previous = compare_steps(patterns, pairwise, "previous")
    return pd.DataFrame(
        {
            "scale": [int(scale) for scale in scales],
            "n_correct": patterns.correct_counts().sum(axis=0),
            "accuracy": accuracy,
            "ci_low": low,
            "ci_high": high,
            "band_low": band_low,
            "band_high": band_high,
            "change": pairwise.change[0],
            "change_low": change_low[0],
            "change_high": change_high[0],
            "change_band_low": change_band_low,
            "change_band_high": change_band_high,
            **compare_steps(patterns, pairwise),
            **{f"previous_{name}": column for name, column in previous.items()},
        }
    )


def _effective_sample_size(patterns: CorrectnessPatterns, curves: Float64) -> Float64:
    """Return how many independent predictions would give each accuracy the same error, float64[S]; n for one order."""
    n = patterns.n_images
    if patterns.n_orders == 1:
        return np.full(patterns.n_steps, float(n))
    accuracy = patterns.accuracy()
    variance, bernoulli = curves.var(axis=0), accuracy * (1 - accuracy)
    size = np.where((variance > 0) & (bernoulli > 0), bernoulli / np.maximum(variance, 1e-300), n)
    return size.clip(1, n * patterns.n_orders)
