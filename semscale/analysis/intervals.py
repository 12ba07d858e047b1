"""Confidence intervals of a share."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray


def wilson_interval(
    correct: ArrayLike, n: ArrayLike, confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the Wilson score interval of `correct` out of `n`, element by element, as shares from 0 to 1.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927),
    209-212: with p = correct / n and z the normal quantile, the interval is
    (p + z^2/2n -+ z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n).

    Args:
        correct: counts from 0 to n, any shape.
        n: counts of at least 1, of a shape that fits.
        confidence: between 0 and 1.

    Raises:
        ValueError: when a count or the confidence is out of range.

    >>> low, high = wilson_interval(8, 10)
    >>> round(float(low), 4), round(float(high), 4)
    (0.4902, 0.9433)
    """
    k, size = np.broadcast_arrays(np.asarray(correct, np.float64), np.asarray(n, np.float64))
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, but got {confidence}")
    if (size < 1).any() or (k < 0).any() or (k > size).any():
        raise ValueError("expected counts from 0 to n with n of at least 1")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)  # scipy takes a fifth of a second to import
    p = k / size
    middle = p + z**2 / (2 * size)
    reach = z * np.sqrt(p * (1 - p) / size + z**2 / (4 * size**2))
    scale = 1 + z**2 / size
    # At the ends the bound is exact; the formula misses it by a rounding error.
    low = np.where(k == 0, 0.0, (middle - reach) / scale)
    high = np.where(k == size, 1.0, (middle + reach) / scale)
    return low, high
