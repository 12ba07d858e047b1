"""Distinct rows of answers and their counts: an image is a row of right and wrong, and few rows are different."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class Patterns:
    """The u distinct rows of answers, sorted bool[u, O, S] for O orders and S steps, and how many images give each.

    Images with the same row are exchangeable, so a resample of n images is one multinomial draw over the distinct
    rows, and no array of n rows is needed again.
    """

    rows: Bool
    counts: Int64

    @property
    def n_images(self) -> int:
        """Return n."""
        return int(self.counts.sum())

    @property
    def n_orders(self) -> int:
        """Return O."""
        return int(self.rows.shape[1])

    @property
    def n_steps(self) -> int:
        """Return S."""
        return int(self.rows.shape[2])

    def right(self) -> Int64:
        """Return how many images are right, int64[O, S]."""
        return np.tensordot(self.counts, self.rows.astype(np.int64), axes=1)

    def accuracy(self) -> Float64:
        """Return the accuracy at each step, the mean over orders, float64[S]."""
        return np.asarray(self.right().sum(axis=0) / (self.n_images * self.n_orders), np.float64)


def count_patterns(correct: Bool) -> Patterns:
    """Count the distinct rows of answers bool[n, S], or bool[O, n, S] with O orders on the same images.

    Raises:
        ValueError: there is no image, no step or no order, or another number of dimensions.

    >>> patterns = count_patterns(np.array([[True, False], [True, True], [True, False]]))
    >>> patterns.rows[:, 0].tolist(), patterns.counts.tolist(), patterns.accuracy().tolist()
    ([[True, False], [True, True]], [2, 1], [1.0, 0.3333333333333333])
    """
    marks = np.asarray(correct, dtype=np.bool_)
    if marks.ndim == 2:
        marks = marks[None]
    if marks.ndim != 3 or not marks.size:
        raise ValueError(f"expected correct[images, steps] or [orders, images, steps], but got {list(marks.shape)}")
    orders, n, steps = marks.shape
    packed = np.packbits(marks.transpose(1, 0, 2).reshape(n, orders * steps), axis=1)
    if packed.shape[1] <= 8:
        # one integer per row sorts ten times faster than bytes; big-endian keeps the order of the bits
        wide = np.zeros((n, 8), dtype=np.uint8)
        wide[:, : packed.shape[1]] = packed
        keys, counts = np.unique(wide.view(">u8").ravel().astype(np.uint64), return_counts=True)
        unique = keys.astype(">u8").view(np.uint8).reshape(-1, 8)
    else:
        keys, counts = np.unique(np.ascontiguousarray(packed).view(f"V{packed.shape[1]}").ravel(), return_counts=True)
        unique = keys.view(np.uint8).reshape(len(keys), -1)
    bits = np.unpackbits(unique, axis=1, count=orders * steps)
    return Patterns(bits.astype(np.bool_).reshape(-1, orders, steps), counts.astype(np.int64))
