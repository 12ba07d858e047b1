"""The nearest category and the statistics per category, item after item: for more items than fit into memory."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from semscale.scoring.plan import Float32, Int32
from semscale.scoring.statistics import CategoryStatistics, second_best

_BLOCK = 256


def nearest_category(items: Float32, texts: Float32) -> Int32:
    """Return for each item the text with the highest cosine; of equal ones the earlier.

    Products are summed in float64 and rounded to float32, so that neither the number of rows handed over at once nor
    a text's place among the others decides a last bit: equal rows have equal cosines.

    Args:
        items: float32[n, d], unit rows.
        texts: float32[m, d], unit rows, at least one.

    Returns:
        int32[n], indices of texts.

    >>> texts = np.array([[1, 0], [0, 1], [0, 1]], dtype=np.float32)
    >>> nearest_category(np.array([[0.6, 0.8], [0.8, 0.6]], dtype=np.float32), texts).tolist()
    [1, 0]
    """
    columns = texts.T.astype(np.float64)
    winners = np.empty(len(items), dtype=np.int32)
    for start in range(0, len(items), _BLOCK):
        cosines = (items[start : start + _BLOCK].astype(np.float64) @ columns).astype(np.float32)
        winners[start : start + _BLOCK] = cosines.argmax(axis=1)
    return winners


class RunningStatistics:
    """What :func:`semscale.scoring.statistics.category_statistics` gives for all items, of which only sums are kept.

    Mean and variance are Welford's (Technometrics 4 (1962) 419), and every sum runs over the items one by one: cut
    into whatever pieces, the same items in the same order give the same bits. Memory: 8 m (d + 3) bytes.

    Args:
        texts: float32[m, d], unit rows of the categories.

    >>> texts = np.array([[1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32)
    >>> running = RunningStatistics(texts)
    >>> for row in (0, 2):
    ...     running.add(texts[[row]], np.array([0], np.int32))
    >>> found = running.result()
    >>> found.fraction.tolist(), found.average_dot_product.round(3).tolist(), found.second_best.tolist()
    ([1.0, 0.0, 0.0], [0.8, nan, nan], [2, -1, -1])
    """

    def __init__(self, texts: Float32) -> None:
        self._texts = texts
        self._counts = np.zeros(len(texts), dtype=np.int64)
        self._means = np.zeros(len(texts), dtype=np.float64)
        self._squares = np.zeros(len(texts), dtype=np.float64)
        self._sums = np.zeros(texts.shape, dtype=np.float64)

    def __len__(self) -> int:
        return int(self._counts.sum())

    def add(self, items: Float32, winners: Int32) -> None:
        """Take notice of items, float32[n, d] unit rows, and of the category that each won, int32[n]."""
        rows = items.astype(np.float64)
        cosines = (rows * self._texts[winners].astype(np.float64)).sum(axis=1)
        for row, winner, cosine in zip(rows, winners.tolist(), cosines.tolist(), strict=True):
            self._counts[winner] += 1
            self._sums[winner] += row
            gap = cosine - self._means[winner]
            self._means[winner] += gap / self._counts[winner]
            self._squares[winner] += gap * (cosine - self._means[winner])

    def result(self) -> CategoryStatistics:
        """Return the statistics of the items so far; without any, all fractions are 0."""
        won = self._counts > 0
        fraction = self._counts / max(1, len(self))
        average = np.where(won, self._means, np.nan)
        variance = np.where(won, self._squares / np.maximum(self._counts, 1), np.nan)
        return CategoryStatistics(fraction, average, variance, second_best(self._sums, self._counts, self._texts))

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return what has to be kept so that another process can go on."""
        return {"counts": self._counts, "means": self._means, "squares": self._squares, "sums": self._sums}

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Go on from what :meth:`arrays` returned.

        Raises:
            ValueError: they are of other categories.
        """
        for name, mine in self.arrays().items():
            kept = arrays[name]
            if kept.shape != mine.shape or kept.dtype != mine.dtype:
                raise ValueError(f"expected {name} of shape {mine.shape}, got {kept.dtype}{list(kept.shape)}")
            mine[...] = kept
