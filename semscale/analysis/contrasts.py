"""Pairwise contrasts of steps with simultaneous bands, and the critical scale and trend derived from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import ndtri

from semscale.analysis.answer_patterns import Bool, CorrectnessPatterns, Float64
from semscale.analysis.intervals import adjusted_change

MARGIN = 0.005
"""Default margin (smallest effect of interest), half a percentage point."""

Trend = Literal["rise", "rise-plateau", "rise-decline", "decline", "flat", "fluctuating"]

_TREND_CONFIDENCE = 0.98  # a constant curve is classified as not flat in about 2 of 100 studies


@dataclass(frozen=True)
class Contrasts:
    """The change of accuracy from step i to step j for every pair of S steps, on the same images, float64[S, S].

    Intervals are centred at `centre`, the change shrunk slightly towards 0; `error`, the standard error, is never 0 off
    the diagonal. `max_deviation` and `max_deviation_from_first` are float64[B]: the largest absolute studentised
    deviation in each replicate, over all pairs and over the changes from the first step.
    """

    change: Float64
    centre: Float64
    error: Float64
    max_deviation: Float64
    max_deviation_from_first: Float64

    def band(self, confidence: float = 0.95) -> tuple[Float64, Float64]:
        """Return low and high, float64[S, S], that cover all pairs simultaneously at this confidence."""
        return self._interval(float(np.quantile(self.max_deviation, confidence)))

    def band_from_first(self, confidence: float = 0.95) -> tuple[Float64, Float64]:
        """Return low and high, float64[S], simultaneous for all changes from the first step."""
        low, high = self._interval(float(np.quantile(self.max_deviation_from_first, confidence)))
        return low[0], high[0]

    def pointwise(self, confidence: float = 0.95) -> tuple[Float64, Float64]:
        """Return low and high, float64[S, S], that cover each pair separately at this confidence."""
        return self._interval(float(ndtri(0.5 + confidence / 2)))

    def _interval(self, quantile: float) -> tuple[Float64, Float64]:
        return self.centre - quantile * self.error, self.centre + quantile * self.error


def contrasts(patterns: CorrectnessPatterns, curves: Float64) -> Contrasts:
    """Return the changes between all pairs of steps with their standard errors.

    Error and centre are those of Bonett and Price: one image gained and one lost are added to the counts, so an
    interval keeps its coverage for few images and has a width when nothing changed. For one order that is
    :func:`semscale.analysis.intervals.change_interval`; with several orders the variance of the replicates replaces the
    counted one. Simultaneous bands replace the normal quantile by a quantile of the largest studentised deviation over
    the pairs in each replicate (sup-t; J. L. Montiel Olea and M. Plagborg-Moller, Journal of Applied Econometrics 34
    (2019), 1-17).

    Args:
        patterns: the distinct rows of correctness.
        curves: float64[B, S], replicates of :func:`semscale.analysis.bootstrap.resample`.

    >>> from semscale.analysis.bootstrap import resample
    >>> from semscale.analysis.answer_patterns import count_patterns
    >>> patterns = count_patterns(np.arange(1000)[:, None] < np.array([600, 640, 641]))
    >>> pairwise = contrasts(patterns, resample(patterns))
    >>> [[round(float(end[0, 1]), 3), round(float(end[1, 2]), 3)] for end in pairwise.band()]
    [[0.027, -0.003], [0.053, 0.005]]
    """
    n, steps = patterns.n_images, patterns.n_steps
    accuracy = patterns.accuracy()
    change = accuracy[None, :] - accuracy[:, None]
    if patterns.n_orders == 1:
        rows = patterns.rows[:, 0].astype(np.float64)
        both_correct = (rows * patterns.counts[:, None]).T @ rows
        correct = np.diagonal(both_correct)
        discordant = correct[None, :] + correct[:, None] - 2 * both_correct
    else:
        covariance = np.atleast_2d(np.cov(curves, rowvar=False))
        variance = np.diagonal(covariance)
        # the number of discordant images that would give this variance, so that one formula serves both cases
        discordant = np.maximum(variance[None, :] + variance[:, None] - 2 * covariance, 0) * n * n + n * change**2
    centre, error = adjusted_change(n * change, discordant, n)
    np.fill_diagonal(error, 0.0)
    first, second = np.triu_indices(steps, 1)
    if not first.size:
        zeros = np.zeros(len(curves))
        return Contrasts(change, change.copy(), error, zeros, zeros)
    deviation = np.abs(curves[:, second] - curves[:, first] - change[first, second]) / error[first, second]
    return Contrasts(change, centre, error, deviation.max(axis=1), deviation[:, : steps - 1].max(axis=1))


@dataclass(frozen=True)
class CriticalScale:
    """The critical scale of a curve with its 95 % interval.

    Attributes:
        scale: the smallest scale shown to be sufficient; None where only the last step would be, which has no later
            one: the curve still rises, or there are too few images to tell.
        low, high: the interval; `high` at the last scale means "there or beyond the measured scales".
    """

    scale: int | None
    low: int
    high: int


def critical_scale(
    scales: Sequence[int], pairwise: Contrasts, margin: float = MARGIN, confidence: float = 0.95
) -> CriticalScale:
    """Return the smallest scale after which no later step has a true accuracy better by more than the margin (a share).

    - `scale` is the smallest one from which the gap to every later step, so also to the best of them, has a one-sided
      upper bound of this confidence below the margin. Each gap is bounded separately: all of them must be small, which
      needs no correction for their number (an intersection-union test).
    - `low` is the smallest scale with no later step significantly better by more than the margin, `high` the smallest
      one from which every later step is significantly not, both by the simultaneous band over all pairs of steps. While
      that band covers, every scale below `low` has too large a gap and no scale before the critical one can be taken
      for `high`; so the interval covers with at least the band's confidence, also on flat curves, where resampled
      critical scales would be biased upwards.

    >>> from semscale.analysis.bootstrap import resample
    >>> from semscale.analysis.answer_patterns import count_patterns
    >>> patterns = count_patterns(np.arange(2000)[:, None] < np.array([1200, 1260, 1280, 1281]))
    >>> critical_scale([1, 2, 4, 8], contrasts(patterns, resample(patterns)))
    CriticalScale(scale=4, low=2, high=4)
    """
    later = np.triu(np.ones(pairwise.change.shape, dtype=bool), 1)
    one_sided = pairwise.centre + float(ndtri(confidence)) * pairwise.error
    low, high = pairwise.band(confidence)
    values = [int(scale) for scale in scales]
    sufficient = _largest(one_sided, later) < margin
    sufficient[-1] = False
    return CriticalScale(
        scale=values[int(sufficient.argmax())] if sufficient.any() else None,
        low=values[int((_largest(low, later) <= margin).argmax())],
        high=values[int((_largest(high, later) <= margin).argmax())],
    )


def _largest(values: Float64, later: Bool) -> Float64:
    # the last step has no later one: nothing is better, so it always qualifies
    return np.asarray(np.where(later, values, -np.inf).max(axis=1), np.float64)


def classify_trend(pairwise: Contrasts, margin: float = MARGIN, confidence: float = _TREND_CONFIDENCE) -> Trend:
    """Classify the trend of a curve.

    The band is simultaneous for the changes between all pairs of steps. A *rise* from step i to a later step j is
    significant when the band of that change is above 0 and reaches the margin (a share), so that it is neither chance
    nor shown to be too small to matter; a *fall* likewise. The first rule that applies decides:

    1. `fluctuating`: a significant fall (i to j) is followed by a significant rise (j to k);
    2. `rise-decline`: a significant rise is followed by a significant fall;
    3. `rise`: a significant rise, also between two steps of the second half of the ladder;
    4. `rise-plateau`: a significant rise, but none in the second half;
    5. `decline`: a significant fall;
    6. `flat`: nothing is significant; look at the width of the band.

    The second half starts at the middle step, of an even number the earlier one; with two steps it is the whole ladder.
    """
    low, high = pairwise.band(confidence)
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
