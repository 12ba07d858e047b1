"""Which classes are taken for which: only the pairs that occur; the matrix of 20,000 classes has 400 million cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semscale.scoring.plan import Int32


@dataclass(frozen=True)
class Confusion:
    """Counts of images by true and by predicted class; memory grows with the pairs that occur.

    Attributes:
        true, predicted: int32[p], the pairs, sorted.
        count: int64[p], images of each pair.
        n_classes: how many classes there are.
    """

    true: Int32
    predicted: Int32
    count: NDArray[np.int64]
    n_classes: int

    @classmethod
    def of(cls, true_class: Int32, predicted_class: Int32, n_classes: int) -> Confusion:
        """Count the pairs of int32[n] true and int32[n] predicted classes.

        >>> found = Confusion.of(np.array([0, 1, 0], np.int32), np.array([0, 1, 1], np.int32), 2)
        >>> found.dense().tolist(), found.right().tolist()
        ([[1, 1], [0, 1]], [1, 1])
        """
        cells, count = np.unique(true_class.astype(np.int64) * n_classes + predicted_class, return_counts=True)
        true, predicted = np.divmod(cells, n_classes)
        return cls(true.astype(np.int32), predicted.astype(np.int32), count.astype(np.int64), n_classes)

    def dense(self) -> NDArray[np.int64]:
        """Return the matrix, int64[n_classes, n_classes]: rows are true classes."""
        matrix = np.zeros((self.n_classes, self.n_classes), dtype=np.int64)
        matrix[self.true, self.predicted] = self.count
        return matrix

    def right(self) -> NDArray[np.int64]:
        """Return int64[n_classes], the images of each class that are labelled right."""
        return self._sums(self.true, self.true == self.predicted)

    def of_class(self) -> NDArray[np.int64]:
        """Return int64[n_classes], the images of each class."""
        return self._sums(self.true)

    def as_class(self) -> NDArray[np.int64]:
        """Return int64[n_classes], the images that are taken for each class."""
        return self._sums(self.predicted)

    def _sums(self, place: Int32, where: NDArray[np.bool_] | slice = slice(None)) -> NDArray[np.int64]:
        sums = np.zeros(self.n_classes, dtype=np.int64)
        np.add.at(sums, place[where], self.count[where])
        return sums
