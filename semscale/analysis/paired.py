"""Comparisons of two steps on the same images, from the images gained and lost between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, ndtri

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class PairedCounts:
    """Every pair of S steps on the same n images.

    Attributes:
        n_images: n.
        gained: int64[S, S], images wrong at step i and right at step j.
        lost: int64[S, S], images right at step i and wrong at step j.
    """

    n_images: int
    gained: Int64
    lost: Int64

    def change(self) -> Float64:
        """Return the change of accuracy from step i to step j, float64[S, S]."""
        return (self.gained - self.lost) / self.n_images

    def standard_error(self) -> Float64:
        """Return the standard error of the change, float64[S, S].

        The variance of a difference of paired shares, (g + l - (g - l)^2 / n) / n^2 for g gained and l lost;
        see A. Agresti, "Categorical Data Analysis", section on matched pairs.
        """
        gained, lost, n = self.gained.astype(np.float64), self.lost.astype(np.float64), self.n_images
        return np.sqrt(np.maximum(gained + lost - (gained - lost) ** 2 / n, 0.0)) / n


def paired_counts(correct: NDArray[np.bool_]) -> PairedCounts:
    """Count gained and lost images between all pairs of steps.

    Args:
        correct: bool[n, S], which images are right at which step.

    >>> counts = paired_counts(np.array([[True, True], [False, True], [False, True], [True, False]]))
    >>> int(counts.gained[0, 1]), int(counts.lost[0, 1]), float(counts.change()[0, 1])
    (2, 1, 0.25)
    """
    marks = np.asarray(correct, dtype=np.float64)
    both = np.rint(marks.T @ marks).astype(np.int64)
    right = np.diagonal(both)
    return PairedCounts(len(marks), right[None, :] - both, right[:, None] - both)


def mcnemar_p(gained: int, lost: int) -> float:
    """Return the exact two-sided p of McNemar's test, by which a change is as often a gain as a loss.

    Q. McNemar, Psychometrika 12 (1947), 153-157, with the binomial distribution instead of its approximation.

    >>> mcnemar_p(5, 0), mcnemar_p(0, 0)
    (0.0625, 1.0)
    """
    if gained == lost:
        return 1.0
    # the binomial is symmetric at one half, so both tails are twice the smaller one
    return float(2 * bdtr(min(gained, lost), gained + lost, 0.5))


def normal_quantile(probability: float) -> float:
    """Return the value below which a standard normal variable falls with this probability."""
    return float(ndtri(probability))
