"""Paired effects: linear contrasts of accuracies on the same images, with orders and seeds as further variance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from semscale.analysis.answer_patterns import Bool, Float64, count_patterns
from semscale.analysis.bootstrap import REPLICATES, resample
from semscale.analysis.intervals import adjusted_change

_ROUNDING = 1e-9  # studentised deviations that are equal in exact arithmetic differ by less


def with_sources(correct: Bool, n_levels: int) -> Bool:
    """Return correctness with all sources of variance as axes, bool[O, K, n, L]: orders, seeds, images, levels.

    Orders or seeds that agree on every image and level are reduced to one: they add no variance, and one of each has
    exact tests. All orders agree at scale 1, where the only category is the class name.

    Args:
        correct: bool[n, L]; bool[K, n, L] for K seeds; or bool[O, K, n, L] for O orders of the categories and K seeds.
        n_levels: L.

    Raises:
        ValueError: an axis is empty, or the shape does not match.

    >>> with_sources(np.eye(3, 2, dtype=bool), 2).shape, with_sources(np.zeros((4, 5, 3, 2), bool), 2).shape
    ((1, 1, 3, 2), (1, 1, 3, 2))
    """
    rows = np.asarray(correct, dtype=np.bool_)
    if rows.ndim not in (2, 3, 4) or not rows.size or rows.shape[-1] != n_levels:
        raise ValueError(f"expected correct[(orders,) (seeds,) images, {n_levels} levels], but got {list(rows.shape)}")
    rows = rows.reshape((1,) * (4 - rows.ndim) + rows.shape)
    for axis in (0, 1):
        first = rows.take([0], axis=axis)
        if (rows == first).all():
            rows = first
    return rows


def resample_sources(arms: Sequence[Bool], replicates: int = REPLICATES, seed: int = 0) -> list[Float64]:
    """Return bootstrap replicates of the curve of each arm, float64[B, L], that vary over images, orders and seeds.

    Every replicate draws images and orders once for all arms, and seeds for each arm, all with replacement and
    independently of each other: the bootstrap of crossed factors with a product of multinomial weights (A. B. Owen and
    D. Eckles, "Bootstrapping data arrays of arbitrary order", Annals of Applied Statistics 6 (2012), 895-927), which is
    :func:`semscale.analysis.bootstrap.resample` with one more factor. The variance of what only a combination of
    factors has, such as tokens drawn at random for each image and seed, is overestimated; the variance between R
    orders or seeds themselves is underestimated by 1 / R, as in every bootstrap of few: where five seeds differ by more
    than their images do, pointwise 95 % intervals cover about 90 %, and bands less.

    Args:
        arms: bool[O, K, n, L] each, as of :func:`with_sources`; n is common, O common or 1, K and L are the arm's own.
        replicates, seed: of the bootstrap.

    Raises:
        ValueError: the arms differ in images or orders, or there are fewer than two replicates.

    >>> arm = np.arange(100)[:, None] < np.array([80, 60])
    >>> curves = resample_sources([with_sources(arm, 2)], replicates=500)[0]
    >>> curves.shape, curves.mean(axis=0).round(2).tolist()
    ((500, 2), [0.8, 0.6])
    """
    orders, n = max(len(arm) for arm in arms), arms[0].shape[2]
    if any(arm.shape[2] != n or len(arm) not in (1, orders) for arm in arms):
        raise ValueError(f"expected arms with the same images and orders, but got {[list(arm.shape) for arm in arms]}")
    # the seeds lie beside the levels until images and orders are drawn
    columns = [
        np.broadcast_to(arm, (orders, *arm.shape[1:])).transpose(0, 2, 1, 3).reshape(orders, n, -1) for arm in arms
    ]
    curves = resample(count_patterns(np.concatenate(columns, axis=2)), replicates, seed)
    ends = np.cumsum([column.shape[2] for column in columns])
    result = []
    for number, (arm, part) in enumerate(zip(arms, np.split(curves, ends[:-1], axis=1), strict=True)):
        seeds, levels = arm.shape[1], arm.shape[3]
        # a child of the seed, or the draws of seeds would repeat those of images
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
        weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=replicates) / seeds
        result.append(np.einsum("bk,bkl->bl", weights, part.reshape(replicates, seeds, levels)))
    return result


@dataclass(frozen=True)
class Effects:
    """M contrasts of accuracies on the same n images, with pointwise and simultaneous intervals.

    Attributes:
        estimate: float64[M], shares.
        centre, error: float64[M], centre of the intervals (the estimate shrunk slightly towards 0) and standard error,
            which is never 0.
        max_deviation: float64[B], the largest absolute studentised deviation over the contrasts in each replicate.
    """

    estimate: Float64
    centre: Float64
    error: Float64
    max_deviation: Float64

    @property
    def p(self) -> Float64:
        """Return the two-sided p of each contrast alone, float64[M]."""
        return np.asarray(2 * ndtr(-np.abs(self.centre) / self.error), np.float64)

    @property
    def p_max_t(self) -> Float64:
        """Return the p of each contrast adjusted for all of them, float64[M]; the smallest is that of the joint test.

        The share of replicates whose largest deviation reaches the observed one (single-step max-t: P. H. Westfall and
        S. S. Young, "Resampling-Based Multiple Testing", 1993), with the observation counted among them, and no smaller
        than the p of the contrast alone.
        """
        observed = np.abs(self.centre) / self.error
        reached = (self.max_deviation[:, None] >= observed - _ROUNDING).sum(axis=0)
        return np.asarray(np.maximum((1 + reached) / (1 + len(self.max_deviation)), self.p), np.float64)

    def pointwise(self, confidence: float = 0.95) -> tuple[Float64, Float64]:
        """Return low and high, float64[M], of each contrast alone."""
        return self._interval(float(ndtri(0.5 + confidence / 2)))

    def band(self, confidence: float = 0.95) -> tuple[Float64, Float64]:
        """Return low and high, float64[M], that cover all contrasts simultaneously at this confidence."""
        # where the replicates are all equal their quantile is 0, but no band is narrower than the pointwise interval
        sup_t = max(float(np.quantile(self.max_deviation, confidence)), float(ndtri(0.5 + confidence / 2)))
        return self._interval(sup_t)

    def columns(self) -> dict[str, Float64]:
        """Return low, high, band_low, band_high (95 %) and p, float64[M] each."""
        (low, high), (band_low, band_high) = self.pointwise(), self.band()
        return {"low": low, "high": high, "band_low": band_low, "band_high": band_high, "p": self.p}

    def _interval(self, quantile: float) -> tuple[Float64, Float64]:
        return self.centre - quantile * self.error, self.centre + quantile * self.error


def paired_effects(estimate: Float64, replicates: Float64, n: int, squares: Float64 | None = None) -> Effects:
    """Return the intervals of M contrasts of accuracies.

    With d_i the contrast of image i, centre and error are those of Bonett and Price's paired interval, with sum d_i^2
    in the place of the discordant images (:func:`semscale.analysis.intervals.adjusted_change`: one image gained and one
    lost are added). The band replaces the normal quantile by that of the largest studentised deviation over the
    contrasts in each replicate (sup-t; J. L. Montiel Olea and M. Plagborg-Moller, Journal of Applied Econometrics 34
    (2019), 1-17).

    Args:
        estimate: float64[M], means of d_i.
        replicates: float64[B, M], of :func:`resample_sources` under the same contrasts.
        n: images.
        squares: float64[M], sums of d_i^2; with several orders or seeds None, for the variance of the replicates.

    >>> replicates = np.random.default_rng(0).normal(0.02, 0.0063, size=(2000, 1))
    >>> found = paired_effects(np.array([0.02]), replicates, 1000, squares=np.array([40.0]))
    >>> [round(float(end[0]), 4) for end in found.pointwise()]
    [0.0073, 0.0326]
    """
    if squares is None:
        # the sum of squares that would give this variance, so that one formula serves both
        squares = replicates.var(axis=0) * n * n + n * estimate**2
    centre, error = adjusted_change(n * estimate, np.asarray(squares, np.float64), n)
    deviation = np.abs(replicates - estimate) / error
    return Effects(estimate, centre, error, deviation.max(axis=1, initial=0.0))
