"""Conclusions of a curve: baseline, peak, end, trend and critical scale, from the images right at each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from semscale.analysis.answer_patterns import Bool, Float64, Patterns, count_patterns
from semscale.analysis.bootstrap import REPLICATES, resample
from semscale.analysis.contrasts import MARGIN, Contrasts, Trend, contrasts, critical_scale, name_trend
from semscale.analysis.curve_models import fit_shapes
from semscale.analysis.intervals import wilson_interval
from semscale.analysis.peak import find_peak
from semscale.analysis.step_tests import cochran_q, compare_steps


@dataclass(frozen=True)
class CurveSummary:
    """The conclusions of one curve; accuracies are shares from 0 to 1, changes are differences of shares.

    Attributes:
        n_images, n_orders: images behind every step, and orders of the categories they were seen in; with
            several orders accuracies are means over orders and the intervals hold for other orders too.
        baseline: accuracy at the first step with its 95 % interval (Wilson).
        peak, peak_scale: highest accuracy and the smallest scale that reaches it.
        peak_change: peak - baseline; never negative, and as a maximum over steps biased upwards.
        peak_change_corrected, peak_p: see :class:`semscale.analysis.peak.Peak`.
        final, final_change: accuracy at the last step, and its difference to the baseline with its paired 95 %
            interval.
        critical_scale: see :func:`semscale.analysis.contrasts.critical_scale`; None where no step but the last
            qualifies.
        best_form, asymptote: see :class:`semscale.analysis.curve_models.Shapes`.
        cochran_p: p of Cochran's Q, whether anything changes over the steps.
        trend: see :func:`semscale.analysis.contrasts.name_trend`.
        ever_right: share of images right at one step at least (in any order): no choice among the steps
            could do better.
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
    ever_right: float
    steps: pd.DataFrame

    def columns(self) -> dict[str, Any]:
        """Return the columns of ``curves.parquet`` besides the name and the size of the curve."""
        others = ("n_images", "ever_right", "steps")
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in others}


def conclude(
    scales: Sequence[int], correct: Bool, margin: float = MARGIN, replicates: int = REPLICATES, seed: int = 0
) -> CurveSummary:
    """Return the conclusions of a curve.

    Args:
        scales: the S scales, rising.
        correct: bool[n, S], which images are right at which step, the same images at all steps; or
            bool[O, n, S] for O orders of the categories.
        margin: changes below this share are of no interest.
        replicates: of the bootstrap and of the permutations.
        seed: of the generator; same seed, same numbers.

    Raises:
        ValueError: there is no image or no step, or the shapes do not fit.

    >>> correct = np.zeros((1000, 3), dtype=bool)
    >>> correct[:700, 0] = correct[:800, 1] = correct[:800, 2] = True
    >>> summary = conclude([1, 2, 3], correct)
    >>> summary.baseline, summary.peak, summary.peak_scale, summary.trend, summary.critical_scale
    (0.7, 0.8, 2, 'rise-plateau', 2)
    """
    marks = np.asarray(correct, dtype=np.bool_)
    if marks.ndim not in (2, 3) or not marks.size or marks.shape[-1] != len(scales):
        raise ValueError(f"expected correct[images, {len(scales)} steps], but got {list(marks.shape)}")
    patterns = count_patterns(marks)
    curves = resample(patterns, replicates, seed)
    found = contrasts(patterns, curves)
    steps = step_table(scales, patterns, curves, found)
    # another stream than the bootstrap's, or permutations and replicates would share their draws
    peak = find_peak(patterns, curves, replicates, seed + 1)
    critical, shapes = critical_scale(scales, found, margin), fit_shapes(scales, patterns, curves)
    first, last, top = steps.iloc[0], steps.iloc[-1], steps.iloc[peak.step]
    return CurveSummary(
        n_images=patterns.n_images,
        n_orders=patterns.n_orders,
        baseline=float(first["accuracy"]),
        baseline_ci_low=float(first["ci_low"]),
        baseline_ci_high=float(first["ci_high"]),
        peak=float(top["accuracy"]),
        peak_scale=int(top["scale"]),
        peak_change=peak.change,
        peak_change_corrected=peak.corrected,
        peak_p=peak.p,
        final=float(last["accuracy"]),
        final_change=float(last["change"]),
        final_change_low=float(last["change_low"]),
        final_change_high=float(last["change_high"]),
        critical_scale=critical.scale,
        critical_low=critical.low,
        critical_high=critical.high,
        best_form=shapes.best,
        asymptote=shapes.asymptote,
        asymptote_low=shapes.asymptote_low,
        asymptote_high=shapes.asymptote_high,
        cochran_p=cochran_q(patterns).p,
        trend=name_trend(found, margin),
        ever_right=float(patterns.counts @ patterns.rows.any(axis=(1, 2)) / patterns.n_images),
        steps=steps,
    )


def step_table(scales: Sequence[int], patterns: Patterns, curves: Float64, found: Contrasts) -> pd.DataFrame:
    """Return a row per step.

    Columns: scale; n_correct (over all orders) and accuracy; ci_low, ci_high (95 %, Wilson, each step alone)
    and band_low, band_high (95 %, all steps at once: Wilson's interval with the bootstrap's sup-t quantile);
    change from the first step with change_low, change_high (95 %, paired, each step alone) and
    change_band_low, change_band_high (all steps at once); gained and lost images against the first step with
    mcnemar_p and mcnemar_p_holm; the same against the step before, with `previous_` in front.
    """
    accuracy = patterns.accuracy()
    size = _images_worth(patterns, curves)
    low, high = wilson_interval(accuracy * size, size)
    error = np.sqrt(np.maximum(accuracy * (1 - accuracy) / size, 0.25 / size**2))
    reach = float(np.quantile((np.abs(curves - accuracy) / error).max(axis=1), 0.95))
    # a band over all steps is nowhere narrower than the interval of one; where every image is right at every step (or
    # none is), no replicate moves, and the bootstrap would give a band of no width
    reach = max(reach, float(ndtri(0.975)))
    band_low, band_high = wilson_interval(accuracy * size, size, 2 * float(ndtr(reach)) - 1)
    change_low, change_high = found.pointwise()
    all_low, all_high = found.band_from_first()
    previous = compare_steps(patterns, found, "previous")
    return pd.DataFrame(
        {
            "scale": [int(scale) for scale in scales],
            "n_correct": patterns.right().sum(axis=0),
            "accuracy": accuracy,
            "ci_low": low,
            "ci_high": high,
            "band_low": band_low,
            "band_high": band_high,
            "change": found.change[0],
            "change_low": change_low[0],
            "change_high": change_high[0],
            "change_band_low": all_low,
            "change_band_high": all_high,
            **compare_steps(patterns, found),
            **{f"previous_{name}": column for name, column in previous.items()},
        }
    )


def _images_worth(patterns: Patterns, curves: Float64) -> Float64:
    """Return how many single answers would give each accuracy the same error, float64[S]; n for one order."""
    n = patterns.n_images
    if patterns.n_orders == 1:
        return np.full(patterns.n_steps, float(n))
    accuracy = patterns.accuracy()
    variance, single = curves.var(axis=0), accuracy * (1 - accuracy)
    worth = np.where((variance > 0) & (single > 0), single / np.maximum(variance, 1e-300), n)
    return worth.clip(1, n * patterns.n_orders)
