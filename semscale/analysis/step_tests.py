"""Tests of equal accuracy: Cochran's Q over all steps, McNemar's test for pairs of steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, ndtr

from semscale.analysis.answer_patterns import CorrectnessPatterns
from semscale.analysis.contrasts import Contrasts
from semscale.analysis.intervals import holm, mcnemar_p


@dataclass(frozen=True)
class CochranQ:
    """Cochran's Q with its degrees of freedom and its p-value by the chi-squared distribution."""

    q: float
    degrees: int
    p: float


def cochran_q(patterns: CorrectnessPatterns) -> CochranQ:
    """Test whether accuracy is the same at all steps.

    W. G. Cochran, "The comparison of percentages in matched samples", Biometrika 37 (1950), 256-266: with C_j images
    correct at step j and R_i steps at which image i is, Q = (S - 1) (S sum C_j^2 - (sum C_j)^2) /
    (S sum R_i - sum R_i^2), chi-squared with S - 1 degrees of freedom under the null. Where no image ever changes, Q is
    0 and p is 1. With several orders every image counts once, by its sum over orders: Friedman's form of the same
    statistic, with the squares of that sum instead of R_i.

    >>> from semscale.analysis.answer_patterns import count_patterns
    >>> correct = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 1, 0], [1, 0, 0]], bool)
    >>> test = cochran_q(count_patterns(correct))
    >>> round(test.q, 4), test.degrees, round(test.p, 4)
    (5.2, 2, 0.0743)
    """
    steps = patterns.n_steps
    sums = patterns.rows.sum(axis=1).astype(np.float64)
    columns = patterns.counts @ sums
    within = float(patterns.counts @ (sums**2).sum(axis=1) - patterns.counts @ (sums.sum(axis=1) ** 2) / steps)
    if within <= 1e-9 * max(1.0, float(columns.sum())):
        return CochranQ(0.0, steps - 1, 1.0)
    q = (steps - 1) * float(((columns - columns.mean()) ** 2).sum()) / within
    return CochranQ(q, steps - 1, float(chdtrc(steps - 1, q)))


def compare_steps(
    patterns: CorrectnessPatterns, pairwise: Contrasts, against: Literal["first", "previous"] = "first"
) -> dict[str, NDArray[Any]]:
    """Test the change of every step against the first step or against the previous one, two-sided.

    For one order by McNemar's exact test. With several orders an image has several predictions and no two-by-two table:
    the change is then compared with its two-way error, as a normal variable.

    Returns:
        gained and lost (images, counted over all orders), mcnemar_p and mcnemar_p_holm (adjusted for the S - 1 steps
        tested), an entry per step; that of the first step has p = 1.
    """
    steps = patterns.n_steps
    base = np.zeros(steps, np.int64) if against == "first" else np.maximum(np.arange(steps) - 1, 0)
    rows = patterns.rows
    gained, lost = (
        np.tensordot(patterns.counts, changed.sum(axis=1), axes=1).astype(np.int64)
        for changed in (rows & ~rows[:, :, base], ~rows & rows[:, :, base])
    )
    if patterns.n_orders == 1:
        p = mcnemar_p(gained, lost)
    else:
        later = np.arange(1, steps)
        z = np.abs(pairwise.change[base[1:], later]) / pairwise.error[base[1:], later]
        p = np.concatenate([[1.0], 2 * ndtr(-z)])
    return {"gained": gained, "lost": lost, "mcnemar_p": p, "mcnemar_p_holm": np.concatenate([[1.0], holm(p[1:])])}
