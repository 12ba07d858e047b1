"""Correctness patterns: the distinct rows of correct and wrong predictions over all steps, and their counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class CorrectnessPatterns:
    """The u distinct rows of correctness, sorted bool[u, O, S] for O orders and S steps, and their counts, int64[u].

    Images with the same row are exchangeable, so a resample of n images is one multinomial draw over the distinct
    rows, and no array of n rows is needed.
    """

    rows: Bool
    counts: Int64

    @property
    def n_images(self) -> int:
        """Return n, the number of images."""
        return int(self.counts.sum())

    @property
    def n_orders(self) -> int:
        """Return O, the number of orders."""
        return int(self.rows.shape[1])

    @property
    def n_steps(self) -> int:
        """Return S, the number of steps."""
        return int(self.rows.shape[2])

    def correct_counts(self) -> Int64:
        """Return the number of correctly labelled images, int64[O, S]."""
        return np.tensordot(self.counts, self.rows.astype(np.int64), axes=1)

    def accuracy(self) -> Float64:
        """Return the accuracy of each step, averaged over orders, float64[S]."""
        return np.asarray(self.correct_counts().sum(axis=0) / (self.n_images * self.n_orders), np.float64)


def count_patterns(correct: Bool) -> CorrectnessPatterns:
    """Return the distinct rows of bool[n, S], or of bool[O, n, S] for O orders on the same images, and their counts.

    Raises:
        ValueError: no image, step or order, or another number of dimensions.

    >>> patterns = count_patterns(np.array([[True, False], [True, True], [True, False]]))
    >>> patterns.rows[:, 0].tolist(), patterns.counts.tolist(), patterns.accuracy().tolist()
    ([[True, False], [True, True]], [2, 1], [1.0, 0.3333333333333333])
    """
    rows = np.asarray(correct, dtype=np.bool_)
    if rows.ndim == 2:
        rows = rows[None]
    if rows.ndim != 3 or not rows.size:
        raise ValueError(f"expected correct[images, steps] or [orders, images, steps], but got {list(rows.shape)}")
    orders, n, steps = rows.shape
    packed = np.packbits(rows.transpose(1, 0, 2).reshape(n, orders * steps), axis=1)
    if packed.shape[1] <= 8:
        # one integer per row sorts ten times faster than bytes; big-endian keeps the order of the bits
        padded = np.zeros((n, 8), dtype=np.uint8)
        padded[:, : packed.shape[1]] = packed
        keys, counts = np.unique(padded.view(">u8").ravel().astype(np.uint64), return_counts=True)
        unique = keys.astype(">u8").view(np.uint8).reshape(-1, 8)
    else:
        keys, counts = np.unique(np.ascontiguousarray(packed).view(f"V{packed.shape[1]}").ravel(), return_counts=True)
        unique = keys.view(np.uint8).reshape(len(keys), -1)
    bits = np.unpackbits(unique, axis=1, count=orders * steps)
    return CorrectnessPatterns(bits.astype(np.bool_).reshape(-1, orders, steps), counts.astype(np.int64))
