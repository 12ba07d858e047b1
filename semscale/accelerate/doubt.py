"""How far a class score from a device can be from the float32 kernel's, for every aggregation.

Both products compute a cosine s = x.t with an error of at most e = gamma_d ||x|| ||t|| (:func:`kernel_bound`), so the
two differ by at most 2 e. From there, with u the unit roundoff of float32, n the categories of a class, and
g = ||x|| max ||t||, which no cosine exceeds but for rounding:

- `max`, and the smallest cosine, are cosines themselves: 2 e.
- `mean-similarity`, `mean-embedding`: w times a sum of n cosines, w the same on both sides. The sums' arguments differ
  by 2 e each; either summation adds gamma_(n-1) n g, the weight a rounding: w n (2 e + 2 gamma_(n+2) g). w n is 1 for
  the mean, and n / ||sum of t|| for the mean embedding.
- `top-k-mean`: the j-th largest of n numbers moves by no more than the numbers do, so it is a mean of k: the same
  with k in place of n.
- `logsumexp`: log(sum of exp(t s)) / t moves by no more than the cosines do, since its derivatives are positive and
  add up to 1: 2 e. The running sum E >= 1 of exp(t (s - m)) is off by a relative n (n + 10) u on either side: every
  merge computes exp(-y), y = t |difference|, with a relative error of 2 u y + 8 u (the two roundings of y; exp and log
  are taken as right to 4 units in the last place), and y exp(-y) < 0.37, so it adds at most (0.74 n + 10) u, n u for
  the term that a new maximum scales down. The logarithm makes of that an absolute error, t divides it.

Two scores compare on both sides alike when they are further apart than their two bounds together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semscale.accelerate.bound import summation_factor
from semscale.scoring.aggregations import LogSumExp, Rule, ScaledSums, TopMean
from semscale.scoring.plan import LadderPlan

Float64 = NDArray[np.float64]

_UNIT = 2.0**-24
# for the rounding of norms and bounds, and of differences between scores
_SLACK, _TINY = 1.002, 1e-29
# an error of the running sum of exponentials beyond which its logarithm is no longer linear
_MOST_RELATIVE = 0.05


@dataclass(frozen=True)
class Reach:
    """A bound for each step and class: `per_norm * g + fixed`, g the norm of an image times the largest of a text.

    Attributes:
        per_norm, fixed: float64[S, n_classes], or [S, 1] where it is the same for all classes.
    """

    per_norm: Float64
    fixed: Float64


def cosine_reach(d: int) -> float:
    """Return how far two float32 cosines of the same embeddings can be apart, as a multiple of their norms.

    >>> 6.1e-5 < cosine_reach(512) < 6.2e-5
    True
    """
    return _SLACK * 2 * summation_factor(d, _UNIT)


def reach_of(rule: Rule | None, plan: LadderPlan, d: int) -> Reach:
    """Return the bound of an aggregation.

    Args:
        rule: the aggregation; None for `max`.
        plan: the ladder.
        d: the length of the embeddings.
    """
    cosine = cosine_reach(d)
    steps = len(plan.steps)
    if isinstance(rule, ScaledSums):
        return _scaled(rule.weights, plan.class_counts, cosine)
    if isinstance(rule, TopMean):
        return _scaled(rule.weights, np.minimum(rule.counts, rule.kept), cosine)
    if isinstance(rule, LogSumExp):
        n = plan.class_counts.astype(np.float64)
        relative = n * (n + 10) * _UNIT
        # the logarithm itself, and the division
        rounding = 12 * _UNIT * np.log(n + 1)
        absolute = np.where(relative < _MOST_RELATIVE, 1.1 * relative, np.inf) + rounding
        return Reach(np.full((steps, 1), cosine + 8 * _UNIT), _uniform(2 * absolute / float(rule.scale) + _TINY))
    return Reach(np.full((steps, 1), cosine), np.full((steps, 1), _TINY))


def _scaled(weights: NDArray[np.float32], terms: NDArray[np.int64], cosine: float) -> Reach:
    rounding = (terms + 2) * _UNIT / (1 - (terms + 2) * _UNIT)
    each = weights.astype(np.float64) * terms * (cosine + 2.1 * rounding)
    return Reach(_uniform(each), np.full((len(weights), 1), _TINY))


def _uniform(bounds: Float64) -> Float64:
    """Return one column where all classes have about the same bound."""
    largest = bounds.max(axis=1, keepdims=True)
    same = (largest == bounds) | (largest <= 1.01 * bounds)
    return largest if bool(same.all()) else bounds
