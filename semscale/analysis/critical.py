"""The critical scale: where adding categories stops paying."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from semscale.analysis.contrasts import Contrasts
from semscale.analysis.patterns import Bool, Float64

MARGIN = 0.005
"""Changes below this (half a point) are of no interest unless asked otherwise."""


@dataclass(frozen=True)
class CriticalScale:
    """The critical scale of a curve with its interval.

    Attributes:
        scale: the smallest scale shown to be enough; None where only the last step would be, which has none
            after it: the curve still rises, or there are too few images to tell.
        low, high: the 95 % interval. `high` at the last scale means "there or beyond what was measured".
    """

    scale: int | None
    low: int
    high: int


def critical_scale(
    scales: Sequence[int], found: Contrasts, margin: float = MARGIN, confidence: float = 0.95
) -> CriticalScale:
    """Return the critical scale with its interval.

    What is estimated is the smallest scale after which no later step of the ladder has a true accuracy better
    by more than the margin; the last step always qualifies, so it exists for every curve.

    - `scale` is the smallest one from which the gap to every later step, so also to the best of them, has a
      one-sided upper bound of this confidence below the margin. Each gap has its own bound: all of them have
      to be small, and asking that of many gaps needs no correction (an intersection-union test).
    - `low` is the smallest scale that has no later step surely better by more than the margin, `high` the
      smallest one from which every later step is surely not; "surely" by the band of the replicates that
      holds for all pairs of steps at once. While that band holds, every scale below `low` has too large a gap
      and none from before the critical scale can pass for `high`; so the interval covers with at least the
      band's confidence, also on flat curves, where resampled critical scales would be biased upwards.

    Args:
        scales: the S scales.
        found: the changes between all pairs of steps.
        margin: as a share.
        confidence: of the bound and of the interval.

    >>> from semscale.analysis.bootstrap import resample
    >>> from semscale.analysis.contrasts import contrasts
    >>> from semscale.analysis.patterns import count_patterns
    >>> patterns = count_patterns(np.arange(2000)[:, None] < np.array([1200, 1260, 1280, 1281]))
    >>> critical_scale([1, 2, 4, 8], contrasts(patterns, resample(patterns)))
    CriticalScale(scale=4, low=2, high=4)
    """
    later = np.triu(np.ones(found.change.shape, dtype=bool), 1)
    one_sided = found.centre + float(ndtri(confidence)) * found.error
    low, high = found.band(confidence)
    names = [int(scale) for scale in scales]
    enough = _largest(one_sided, later) < margin
    enough[-1] = False
    return CriticalScale(
        scale=names[int(enough.argmax())] if enough.any() else None,
        low=names[int((_largest(low, later) <= margin).argmax())],
        high=names[int((_largest(high, later) <= margin).argmax())],
    )


def _largest(values: Float64, later: Bool) -> Float64:
    # the last step has none after it: nothing is better, so it always qualifies
    return np.asarray(np.where(later, values, -np.inf).max(axis=1), np.float64)
