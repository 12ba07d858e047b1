"""Confidence intervals and tests of proportions: of one sample, of paired and of independent samples."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, ndtri

Float64 = NDArray[np.float64]
Proportion = tuple[float, float, float]
"""(proportion, low, high): a proportion with the ends of its interval."""


def wilson_interval(correct: ArrayLike, n: ArrayLike, confidence: float = 0.95) -> tuple[Float64, Float64]:
    """Return the Wilson score interval of `correct` out of `n`, element by element, as shares from 0 to 1.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927), 209-212:
    (p + z^2/2n -+ z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n) with p = correct / n and z the normal quantile.

    Raises:
        ValueError: a count or the confidence is out of range.

    >>> low, high = wilson_interval(8, 10)
    >>> round(float(low), 4), round(float(high), 4)
    (0.4902, 0.9433)
    """
    k, size = np.broadcast_arrays(np.asarray(correct, np.float64), np.asarray(n, np.float64))
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, but got {confidence}")
    if (size < 1).any() or (k < 0).any() or (k > size).any():
        raise ValueError("expected counts from 0 to n with n of at least 1")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = k / size
    middle = p + z**2 / (2 * size)
    half_width = z * np.sqrt(p * (1 - p) / size + z**2 / (4 * size**2))
    scale = 1 + z**2 / size
    # at counts of 0 and n the bound is exact, where the formula has a rounding error
    low = np.where(k == 0, 0.0, (middle - half_width) / scale)
    high = np.where(k == size, 1.0, (middle + half_width) / scale)
    return low, high


def mcnemar_p(gained: ArrayLike, lost: ArrayLike) -> Float64:
    """Return the two-sided p-value of McNemar's exact test for counts of gained and lost images, element by element.

    Q. McNemar, Psychometrika 12 (1947), 153-157, with the binomial distribution instead of its approximation.

    >>> mcnemar_p([5, 0, 3], [0, 0, 3]).tolist()
    [0.0625, 1.0, 1.0]
    """
    g, k = np.asarray(gained, np.int64), np.asarray(lost, np.int64)
    # the binomial is symmetric at one half, so both tails are twice the smaller one
    tails = 2 * bdtr(np.minimum(g, k).astype(np.float64), g + k, 0.5)
    return np.where(g == k, 1.0, np.minimum(tails, 1.0))


def change_interval(
    gained: ArrayLike, lost: ArrayLike, n: ArrayLike, confidence: float = 0.95
) -> tuple[Float64, Float64]:
    """Return the interval of a paired change of accuracy over n images, as shares, element by element.

    D. G. Bonett and R. M. Price, "Adjusted Wald confidence interval for a difference of binomial proportions based on
    paired data", Journal of Educational and Behavioral Statistics 37 (2012), 479-488: for g gained and l lost of n,
    (g - l) / (n + 2) -+ z sqrt(g + l + 2 - (g - l)^2 / (n + 2)) / (n + 2).

    Raises:
        ValueError: a count or the confidence is out of range.

    >>> low, high = change_interval(30, 10, 1000)
    >>> round(float(low), 4), round(float(high), 4)
    (0.0073, 0.0326)
    """
    g, k, size = np.broadcast_arrays(*(np.asarray(value, np.float64) for value in (gained, lost, n)))
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, but got {confidence}")
    if (size < 1).any() or (g < 0).any() or (k < 0).any() or (g + k > size).any():
        raise ValueError("expected gained and lost images among n, with n of at least 1")
    centre, error = adjusted_change(g - k, g + k, size)
    half_width = float(ndtri(0.5 + confidence / 2)) * error
    return centre - half_width, centre + half_width


def adjusted_change(net: Float64, discordant: Float64, n: Float64 | int) -> tuple[Float64, Float64]:
    """Return Bonett and Price's centre and standard error of a change: one image gained and one lost are added.

    Args:
        net: images gained less images lost.
        discordant: images gained plus images lost.
        n: images.
    """
    centre = net / (n + 2)
    return centre, np.sqrt(np.maximum(discordant + 2 - net**2 / (n + 2), 0.0)) / (n + 2)


def difference_interval(first: Proportion, second: Proportion) -> tuple[float, float]:
    """Return the interval of the second of two independent proportions minus the first, from their Wilson intervals.

    R. G. Newcombe, "Interval estimation for the difference between independent proportions", Statistics in Medicine 17
    (1998), 873-890, method 10: d - sqrt((p2 - l2)^2 + (u1 - p1)^2) and d + sqrt((u2 - p2)^2 + (p1 - l1)^2). Images
    in both samples make it too wide rather than too narrow.

    Newcombe's first example, 56 of 70 minus 48 of 80:

    >>> sides = [(k / n, *map(float, wilson_interval(k, n))) for k, n in ((48, 80), (56, 70))]
    >>> [round(end, 4) for end in difference_interval(*sides)]
    [0.0524, 0.3339]
    """
    p1, low1, high1 = first
    p2, low2, high2 = second
    difference = p2 - p1
    return difference - math.hypot(p2 - low2, high1 - p1), difference + math.hypot(high2 - p2, p1 - low1)


def holm(p: ArrayLike) -> Float64:
    """Return the p-values of several tests adjusted for their number, in the given sequence.

    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979),
    65-70: the i-th smallest of m is multiplied by m - i + 1, and none is smaller than one before it.

    >>> holm([0.01, 0.04, 0.03, 0.005]).round(6).tolist()
    [0.03, 0.06, 0.06, 0.02]
    """
    values = np.asarray(p, np.float64)
    rank = np.argsort(values, kind="stable")
    adjusted = np.maximum.accumulate(values[rank] * np.arange(len(values), 0, -1))
    result = np.empty_like(values)
    result[rank] = np.minimum(adjusted, 1.0)
    return result
