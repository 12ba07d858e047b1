"""Statistics per category: the columns of the output file of the founding study's labelling tool."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semscale.scoring.plan import Float32, Int32

_CHUNK = 4096


@dataclass(frozen=True)
class CategoryStatistics:
    """Statistics of the m categories of a step.

    A category that labels no image has fraction 0, nan as mean and variance, and no second best.

    Attributes:
        fraction: float64[m], the share of all images that are labelled with the category.
        average_dot_product: float64[m], the mean cosine between these images and the category.
        variance: float64[m], the population variance of that cosine.
        second_best: int32[m], the other category with the highest mean cosine over these images, or -1.
    """

    fraction: NDArray[np.float64]
    average_dot_product: NDArray[np.float64]
    variance: NDArray[np.float64]
    second_best: Int32


def category_statistics(images: Float32, texts: Float32, predicted_category: Int32) -> CategoryStatistics:
    """Return the statistics of every category of a step.

    The mean cosine of a text over a group of images is its dot product with the mean embedding of the group, so sums
    per category suffice: neither the similarity matrix nor a sorted copy of the images is allocated.

    Args:
        images: float32[n, d], unit rows, at least one.
        texts: float32[m, d], unit rows, the texts of the step.
        predicted_category: int32[n], index of the predicted text of each image.

    Raises:
        ValueError: no image, or an index out of range.

    >>> texts = np.array([[1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32)
    >>> stats = category_statistics(texts[[0, 2]], texts, np.array([0, 0], np.int32))
    >>> stats.fraction.tolist(), stats.average_dot_product.round(3).tolist(), stats.second_best.tolist()
    ([1.0, 0.0, 0.0], [0.8, nan, nan], [2, -1, -1])
    """
    if not len(images) or len(images) != len(predicted_category):
        raise ValueError(f"expected a category per image, got {len(images)} and {len(predicted_category)}")
    if predicted_category.min() < 0 or predicted_category.max() >= len(texts):
        raise ValueError(f"expected categories from 0 to {len(texts) - 1}")
    counts = np.bincount(predicted_category, minlength=len(texts))
    sums, cosines = _sums_and_cosines(images, texts, predicted_category)
    with np.errstate(invalid="ignore"):
        average = np.bincount(predicted_category, cosines, len(texts)) / counts
        squares = (cosines - average[predicted_category]) ** 2
        variance = np.bincount(predicted_category, squares, len(texts)) / counts
    return CategoryStatistics(counts / len(images), average, variance, second_best(sums, counts, texts))


def _sums_and_cosines(
    images: Float32, texts: Float32, predicted: Int32
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sum of each category's images, float64[m, d], and the cosine of each image with its category."""
    sums = np.zeros(texts.shape, dtype=np.float64)
    cosines = np.empty(len(images), dtype=np.float64)
    order = np.argsort(predicted, kind="stable")
    for start in range(0, len(order), _CHUNK):
        rows = order[start : start + _CHUNK]
        labels = predicted[rows]
        chunk = images[rows]
        cosines[rows] = np.einsum("ij,ij->i", chunk, texts[labels], dtype=np.float64)
        groups, starts = np.unique(labels, return_index=True)
        sums[groups] += np.add.reduceat(chunk, starts, axis=0, dtype=np.float64)
    return sums, cosines


def second_best(sums: NDArray[np.float64], counts: NDArray[np.int64], texts: Float32) -> Int32:
    """Return for each category the other one with the highest mean cosine over the category's items.

    Args:
        sums: float64[m, d], the sum of the unit rows of each category's items.
        counts: int64[m], the number of these items.
        texts: float32[m, d], unit rows of the categories.

    Returns:
        int32[m]; -1 for a category without items, and if there is no other category.
    """
    second = np.full(len(texts), -1, dtype=np.int32)
    winners = np.flatnonzero(counts)
    if len(texts) < 2:
        return second
    for start in range(0, len(winners), _CHUNK):
        part = winners[start : start + _CHUNK]
        means = (sums[part] / counts[part, None]).astype(np.float32)
        similarities = means @ texts.T
        similarities[np.arange(len(part)), part] = -np.inf
        second[part] = similarities.argmax(axis=1)
    return second


class RunningStatistics:
    """Streaming :func:`category_statistics` of items, images or texts, which are not stored.

    Mean and variance are Welford's (Technometrics 4 (1962) 419), and every sum runs over single items, so the result is
    bitwise independent of the batches. Memory: 8 m (d + 3) bytes.

    Args:
        texts: float32[m, d], unit rows of the categories.

    >>> texts = np.array([[1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32)
    >>> running = RunningStatistics(texts)
    >>> for row in (0, 2):
    ...     running.add(texts[[row]], np.array([0], np.int32))
    >>> stats = running.result()
    >>> stats.fraction.tolist(), stats.average_dot_product.round(3).tolist(), stats.second_best.tolist()
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

    def add(self, items: Float32, predicted: Int32) -> None:
        """Add items, float32[n, d] unit rows, with their predicted categories, int32[n]."""
        rows = items.astype(np.float64)
        cosines = (rows * self._texts[predicted].astype(np.float64)).sum(axis=1)
        for row, category, cosine in zip(rows, predicted.tolist(), cosines.tolist(), strict=True):
            self._counts[category] += 1
            self._sums[category] += row
            deviation = cosine - self._means[category]
            self._means[category] += deviation / self._counts[category]
            self._squares[category] += deviation * (cosine - self._means[category])

    def result(self) -> CategoryStatistics:
        """Return the statistics of all items so far; without items, all fractions are 0."""
        used = self._counts > 0
        fraction = self._counts / max(1, len(self))
        average = np.where(used, self._means, np.nan)
        variance = np.where(used, self._squares / np.maximum(self._counts, 1), np.nan)
        return CategoryStatistics(fraction, average, variance, second_best(self._sums, self._counts, self._texts))
