"""Contrasts between all pairs of steps with simultaneous bands, and the critical scale and trend that they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import ndtri

from semscale.analysis.answer_patterns import Bool, Float64, Patterns
from semscale.analysis.intervals import adjusted_change

MARGIN = 0.005
"""Default margin, half a point: smaller changes are of no interest."""

Trend = Literal["rise", "rise-plateau", "rise-decline", "decline", "flat", "fluctuating"]

_TREND_CONFIDENCE = 0.98  # a curve that never changes is called something else than flat in about 2 of 100 studies


@dataclass(frozen=True)
class Contrasts:
    """The change of accuracy from step i to step j for every pair of S steps, on the same images, float64[S, S].

    Intervals are centred at `centre`, the change drawn a little to 0; `error` is never 0 off the diagonal. `spread` and
    `spread_first` are float64[B]: the largest absolute deviation, in errors, of any pair and of the changes from the
    first step in each replicate.
    """

    change: Float64
    centre: Float64
    error: Float64
    spread: Float64
    spread_first: Float64

    def band(self, confidence: float = 0.95) -> tuple[Float64, Float64]:
        """Return low and high, float64[S, S], that hold for all pairs at once with this confidence."""
        return self._around(float(np.quantile(self.spread, confidence)))

    def band_from_first(self, confidence: float = 0.95) -> tuple[Float64, Float64]:
        """Return low and high, float64[S], for the changes from the first step, all at once."""
        low, high = self._around(float(np.quantile(self.spread_first, confidence)))
        return low[0], high[0]

    def pointwise(self, confidence: float = 0.95) -> tuple[Float64, Float64]:
        """Return low and high, float64[S, S], that hold for each single pair with this confidence."""
        return self._around(float(ndtri(0.5 + confidence / 2)))

    def _around(self, reach: float) -> tuple[Float64, Float64]:
        return self.centre - reach * self.error, self.centre + reach * self.error


def contrasts(patterns: Patterns, curves: Float64) -> Contrasts:
    """Return the changes between all pairs of steps with their errors.

    Error and centre are those of Bonett and Price: one image gained and one lost are added to the counts, so an
    interval keeps its coverage for few images and has a width when nothing changed. For one order that is
    :func:`semscale.analysis.intervals.change_interval`; with several orders the variance of the replicates takes the
    place of the counted one. Bands that hold for all pairs replace the normal quantile by a quantile of the largest
    studentised deviation over the pairs in each replicate (sup-t; J. L. Montiel Olea and M. Plagborg-Moller, Journal
    of Applied Econometrics 34 (2019), 1-17).

    Args:
        patterns: the answers.
        curves: float64[B, S], replicates of :func:`semscale.analysis.bootstrap.resample`.

    >>> from semscale.analysis.bootstrap import resample
    >>> from semscale.analysis.answer_patterns import count_patterns
    >>> patterns = count_patterns(np.arange(1000)[:, None] < np.array([600, 640, 641]))
    >>> found = contrasts(patterns, resample(patterns))
    >>> [[round(float(side[0, 1]), 3), round(float(side[1, 2]), 3)] for side in found.band()]
    [[0.027, -0.003], [0.053, 0.005]]
    """
    n, steps = patterns.n_images, patterns.n_steps
    accuracy = patterns.accuracy()
    change = accuracy[None, :] - accuracy[:, None]
    if patterns.n_orders == 1:
        rows = patterns.rows[:, 0].astype(np.float64)
        both = (rows * patterns.counts[:, None]).T @ rows
        right = np.diagonal(both)
        discordant = right[None, :] + right[:, None] - 2 * both
    else:
        covariance = np.atleast_2d(np.cov(curves, rowvar=False))
        variance = np.diagonal(covariance)
        # the count of discordant pairs that would give this variance, so that one formula serves both
        discordant = np.maximum(variance[None, :] + variance[:, None] - 2 * covariance, 0) * n * n + n * change**2
    centre, error = adjusted_change(n * change, discordant, n)
    np.fill_diagonal(error, 0.0)
    first, second = np.triu_indices(steps, 1)
    if not first.size:
        nothing = np.zeros(len(curves))
        return Contrasts(change, change.copy(), error, nothing, nothing)
    deviation = np.abs(curves[:, second] - curves[:, first] - change[first, second]) / error[first, second]
    return Contrasts(change, centre, error, deviation.max(axis=1), deviation[:, : steps - 1].max(axis=1))


@dataclass(frozen=True)
class CriticalScale:
    """The critical scale of a curve with its 95 % interval.

    Attributes:
        scale: the smallest scale shown to be enough; None where only the last step would be, which has none
            after it: the curve still rises, or there are too few images to tell.
        low, high: the interval; `high` at the last scale means "there or beyond what was measured".
    """

    scale: int | None
    low: int
    high: int


def critical_scale(
    scales: Sequence[int], found: Contrasts, margin: float = MARGIN, confidence: float = 0.95
) -> CriticalScale:
    """Return the smallest scale after which no later step has a true accuracy better by more than the margin (a share).

    - `scale` is the smallest one from which the gap to every later step, so also to the best of them, has a one-sided
      upper bound of this confidence below the margin. Each gap has its own bound: all of them have to be small, and
      asking that of many gaps needs no correction (an intersection-union test).
    - `low` is the smallest scale that has no later step surely better by more than the margin, `high` the smallest one
      from which every later step is surely not; "surely" by the band of the replicates that holds for all pairs of
      steps at once. While that band holds, every scale below `low` has too large a gap and none from before the
      critical scale can pass for `high`; so the interval covers with at least the band's confidence, also on flat
      curves, where resampled critical scales would be biased upwards.

    >>> from semscale.analysis.bootstrap import resample
    >>> from semscale.analysis.answer_patterns import count_patterns
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


def name_trend(found: Contrasts, margin: float = MARGIN, confidence: float = _TREND_CONFIDENCE) -> Trend:
    """Return the word for the shape of a curve.

    The band holds for the changes between all pairs of steps at once. A step j is *surely above* an earlier step i
    when the band of that change lies above 0 and reaches the margin (a share), so that it is neither chance nor shown
    to be too small to matter; *surely below* likewise. The first rule that holds decides:

    1. `fluctuating`: a sure fall is followed by a sure rise (i < j < k with j surely below i, k surely above j);
    2. `rise-decline`: a sure rise is followed by a sure fall;
    3. `rise`: there is a sure rise, also between two steps of the second half of the ladder;
    4. `rise-plateau`: there is a sure rise, but none in the second half;
    5. `decline`: there is a sure fall;
    6. `flat`: nothing is sure; look at the width of the band.

    The second half starts at the middle step, of an even number the earlier one; with two steps it is the whole ladder.
    """
    low, high = found.band(confidence)
    later = np.triu(np.ones(low.shape, dtype=bool), 1)
    up: Bool = (low > 0) & (high >= margin) & later
    down: Bool = (high < 0) & (low <= -margin) & later
    if (down.any(axis=0) & up.any(axis=1)).any():
        return "fluctuating"
    if (up.any(axis=0) & down.any(axis=1)).any():
        return "rise-decline"
    middle = (len(low) - 1) // 2
    if up[middle:, middle:].any():
        return "rise"
    if up.any():
        return "rise-plateau"
    return "decline" if down.any() else "flat"
