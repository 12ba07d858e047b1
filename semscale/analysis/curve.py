"""What a curve says: baseline, peak, end, trend and critical scale, from the images right at each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from semscale.analysis.intervals import wilson_interval
from semscale.analysis.paired import PairedCounts, mcnemar_p, normal_quantile, paired_counts

Trend = Literal["rise", "plateau", "rise-then-decline", "decline", "flat", "fluctuating"]

MARGIN = 0.005
"""Changes below this (half a point) are of no interest unless asked otherwise."""


@dataclass(frozen=True)
class CurveSummary:
    """The conclusions of one curve; accuracies are shares from 0 to 1, changes are differences of shares.

    Attributes:
        n_images: images behind every step.
        baseline, baseline_low, baseline_high: accuracy at the first step with its 95 % Wilson interval.
        peak, peak_scale: highest accuracy and the smallest scale that reaches it.
        peak_change: peak - baseline; never negative, and as a maximum over steps biased upwards.
        final, final_change: accuracy at the last step, and its difference to the baseline.
        trend: see :func:`name_trend`.
        critical_scale: see :func:`critical_scale`; None where no step but the last qualifies.
        margin: the margin used for trend and critical scale.
        steps: a row per step: scale, n_correct, accuracy, ci_low, ci_high (95 % Wilson), gained and lost
            images and exact McNemar p against the first step.
    """

    n_images: int
    baseline: float
    baseline_low: float
    baseline_high: float
    peak: float
    peak_scale: int
    peak_change: float
    final: float
    final_change: float
    trend: Trend
    critical_scale: int | None
    margin: float
    steps: pd.DataFrame


def conclude(scales: Sequence[int], correct: NDArray[np.bool_], margin: float = MARGIN) -> CurveSummary:
    """Return the conclusions of a curve.

    Args:
        scales: the S scales, rising.
        correct: bool[n, S], which images are right at which step; the same images at all steps.
        margin: changes below this share are of no interest.

    Raises:
        ValueError: when there is no image or no step, or the shapes do not fit.

    >>> correct = np.zeros((1000, 3), dtype=bool)
    >>> correct[:700, 0] = correct[:800, 1] = correct[:800, 2] = True
    >>> summary = conclude([1, 2, 3], correct)
    >>> summary.baseline, summary.peak, summary.peak_scale, summary.trend, summary.critical_scale
    (0.7, 0.8, 2, 'plateau', 2)
    """
    marks = np.asarray(correct, dtype=bool)
    if marks.ndim != 2 or not marks.size or marks.shape[1] != len(scales):
        raise ValueError(f"expected correct[images, {len(scales)} steps], but got {list(marks.shape)}")
    counts = paired_counts(marks)
    n_correct = marks.sum(axis=0)
    accuracy = n_correct / len(marks)
    low, high = wilson_interval(n_correct, len(marks))
    steps = pd.DataFrame(
        {
            "scale": list(scales),
            "n_correct": n_correct,
            "accuracy": accuracy,
            "ci_low": low,
            "ci_high": high,
            "gained": counts.gained[0],
            "lost": counts.lost[0],
            "mcnemar_p": list(map(mcnemar_p, counts.gained[0].tolist(), counts.lost[0].tolist())),
        }
    )
    top = int(accuracy.argmax())
    return CurveSummary(
        n_images=len(marks),
        baseline=float(accuracy[0]),
        baseline_low=float(low[0]),
        baseline_high=float(high[0]),
        peak=float(accuracy[top]),
        peak_scale=int(scales[top]),
        peak_change=float(accuracy[top] - accuracy[0]),
        final=float(accuracy[-1]),
        final_change=float(accuracy[-1] - accuracy[0]),
        trend=name_trend(counts, margin),
        critical_scale=critical_scale(scales, counts, margin),
        margin=margin,
        steps=steps,
    )


def critical_scale(scales: Sequence[int], counts: PairedCounts, margin: float = MARGIN) -> int | None:
    """Return the smallest scale after which no later step is better by more than the margin, or None.

    A step qualifies when the one-sided 95 % upper bound of the paired change to every later step (normal
    approximation) is below the margin. The last step, which has none after it, is no answer.
    """
    upper = counts.change() + normal_quantile(0.95) * counts.standard_error()
    for k in range(len(scales) - 1):
        if (upper[k, k + 1 :] < margin).all():
            return int(scales[k])
    return None


def name_trend(counts: PairedCounts, margin: float = MARGIN) -> Trend:
    """Return the word for the shape of a curve, by paired changes on the same images.

    A change from one step to another is *sure* when it is at least the margin and its paired normal interval
    lies on one side of 0. The interval is 95 % with Bonferroni's correction for S - 1 comparisons, because
    peak and troughs are picked from S steps. With the peak (the first highest step), the dip (the lowest step
    before the peak) and the trough (the lowest step from the peak on), the first rule that holds decides:

    1. `fluctuating`: a sure fall to the dip and a sure rise from it to the peak, or a sure fall from the peak
       to the trough and a sure rise from it to the last step;
    2. `rise-then-decline`: a sure rise to the peak and a sure fall from it to the last step;
    3. `rise`: a sure rise to the peak and a sure rise from the middle step to the last step;
    4. `plateau`: a sure rise to the peak;
    5. `decline`: a sure fall from the first step to the trough;
    6. `flat`: nothing is sure.
    """
    change, error = counts.change(), counts.standard_error()
    n_steps = len(change)
    reach = normal_quantile(1 - 0.025 / max(1, n_steps - 1)) * error
    up = (change >= margin) & (change - reach > 0)
    down = up.T
    from_first = change[0]
    peak, last = int(from_first.argmax()), n_steps - 1
    dip = int(from_first[: peak + 1].argmin())
    trough = peak + int(from_first[peak:].argmin())
    if (down[0, dip] and up[dip, peak]) or (down[peak, trough] and up[trough, last]):
        return "fluctuating"
    if up[0, peak]:
        if down[peak, last]:
            return "rise-then-decline"
        return "rise" if up[n_steps // 2, last] else "plateau"
    return "decline" if down[0, trough] else "flat"
