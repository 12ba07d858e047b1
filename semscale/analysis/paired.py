"""Two steps on the same images, told by the images gained and lost between them; Holm for several tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtr, ndtri

from semscale.analysis.patterns import Float64


def mcnemar_p(gained: ArrayLike, lost: ArrayLike) -> Float64:
    """Return the exact two-sided p of McNemar's test, by which a change is as often a gain as a loss.

    Q. McNemar, Psychometrika 12 (1947), 153-157, with the binomial distribution instead of its approximation.

    Args:
        gained, lost: counts of images, of any shapes that fit; element by element.

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
    """Return the interval of a paired change of accuracy, as shares, element by element.

    D. G. Bonett and R. M. Price, "Adjusted Wald confidence interval for a difference of binomial proportions
    based on paired data", Journal of Educational and Behavioral Statistics 37 (2012), 479-488: for g gained
    and l lost of n, (g - l) / (n + 2) -+ z sqrt(g + l + 2 - (g - l)^2 / (n + 2)) / (n + 2).

    Args:
        gained, lost: counts of images wrong before and right after, and the other way round.
        n: images, at least 1.
        confidence: between 0 and 1.

    Raises:
        ValueError: when a count or the confidence is out of range.

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
    reach = float(ndtri(0.5 + confidence / 2)) * error
    return centre - reach, centre + reach


def adjusted_change(net: Float64, discordant: Float64, n: Float64 | int) -> tuple[Float64, Float64]:
    """Return centre and standard error of the change after adding one image gained and one lost.

    Args:
        net: images gained less images lost.
        discordant: images gained plus images lost.
        n: images.
    """
    centre = net / (n + 2)
    return centre, np.sqrt(np.maximum(discordant + 2 - net**2 / (n + 2), 0.0)) / (n + 2)


def holm(p: ArrayLike) -> Float64:
    """Return the p of several tests adjusted for their number, in the given order.

    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6
    (1979), 65-70: the i-th smallest of m is multiplied by m - i + 1, and none is smaller than one before it.

    >>> holm([0.01, 0.04, 0.03, 0.005]).round(6).tolist()
    [0.03, 0.06, 0.06, 0.02]
    """
    values = np.asarray(p, np.float64)
    rank = np.argsort(values, kind="stable")
    adjusted = np.maximum.accumulate(values[rank] * np.arange(len(values), 0, -1))
    result = np.empty_like(values)
    result[rank] = np.minimum(adjusted, 1.0)
    return result
