"""Changes between all pairs of steps with their errors, and bands that hold for all of them at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from semscale.analysis.paired import adjusted_change
from semscale.analysis.patterns import Float64, Patterns


@dataclass(frozen=True)
class Contrasts:
    """The change of accuracy from step i to step j for every pair of S steps, on the same images.

    Attributes:
        change: float64[S, S], accuracy at j less accuracy at i.
        centre: float64[S, S], the change drawn a little to 0, where intervals are centred.
        error: float64[S, S], standard error of the change; never 0 off the diagonal.
        spread: float64[B], the largest absolute deviation of any pair in each replicate, in errors.
        spread_first: float64[B], the same for changes from the first step only.
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

    Error and centre are those of Bonett and Price: one image gained and one lost are added to the counts, so
    an interval keeps its coverage for few images and has a width when nothing changed. For one order that is
    :func:`semscale.analysis.paired.change_interval`; with several orders the variance of the replicates takes
    the place of the counted one. Bands that hold for all pairs replace the normal quantile by a quantile of
    the largest studentised deviation over the pairs in each replicate (sup-t; J. L. Montiel Olea and
    M. Plagborg-Moller, Journal of Applied Econometrics 34 (2019), 1-17).

    Args:
        patterns: the answers.
        curves: float64[B, S], replicates of :func:`semscale.analysis.bootstrap.resample`.

    >>> from semscale.analysis.bootstrap import resample
    >>> from semscale.analysis.patterns import count_patterns
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
    net = n * change
    centre, error = adjusted_change(net, discordant, n)
    np.fill_diagonal(error, 0.0)
    first, second = np.triu_indices(steps, 1)
    if not first.size:
        nothing = np.zeros(len(curves))
        return Contrasts(change, change.copy(), error, nothing, nothing)
    moved = curves[:, second] - curves[:, first] - change[first, second]
    deviation = np.abs(moved) / error[first, second]
    return Contrasts(
        change=change,
        centre=centre,
        error=error,
        spread=deviation.max(axis=1),
        spread_first=deviation[:, : steps - 1].max(axis=1),
    )
