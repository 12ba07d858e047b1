"""Two shares that were not measured on the same images."""

from __future__ import annotations

import math

Share = tuple[float, float, float]
"""A share with the ends of its interval: (share, low, high)."""


def difference_interval(first: Share, second: Share) -> tuple[float, float]:
    """Return the interval of the second share less the first, from the intervals of both by themselves.

    R. G. Newcombe, "Interval estimation for the difference between independent proportions", Statistics in Medicine 17
    (1998), 873-890, method 10, where both intervals are Wilson's: d - sqrt((p2 - l2)^2 + (u1 - p1)^2) and
    d + sqrt((u2 - p2)^2 + (p1 - l1)^2), with the confidence of the two. Images that are in both samples make it too
    wide rather than too narrow.

    Args:
        first, second: each a share from 0 to 1 with its interval.

    Newcombe's first example, 56 of 70 less 48 of 80:

    >>> from semscale.analysis.intervals import wilson_interval
    >>> sides = [(k / n, *map(float, wilson_interval(k, n))) for k, n in ((48, 80), (56, 70))]
    >>> [round(end, 4) for end in difference_interval(*sides)]
    [0.0524, 0.3339]
    """
    p1, low1, high1 = first
    p2, low2, high2 = second
    difference = p2 - p1
    return difference - math.hypot(p2 - low2, high1 - p1), difference + math.hypot(high2 - p2, p1 - low1)
