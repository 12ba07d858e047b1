"""Nearest-category search: the predictions of `max` at every step of a ladder, without ranks and margins."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from semscale.scoring.aggregations import cosine_bound
from semscale.scoring.decisions import count_true, exact_cosines, largest_norm, prefix_argmax
from semscale.scoring.kernel import BLOCK, MAX_PRODUCT_BYTES, check_finite, run_blocks
from semscale.scoring.plan import Float32, Int32

Int64 = NDArray[np.int64]


def nearest_categories(images: Float32, texts: Float32, step_ends: Int64 | None = None, block: int = BLOCK) -> Int32:
    """Return for each image and step the text with the highest cosine in float64, of equal ones the earlier.

    These are the predictions of :func:`semscale.scoring.score_ladder` under `max`, which also ranks the classes. The
    float32 product proposes; the float64 dot products decide between texts closer than its error bound
    (:mod:`semscale.scoring.aggregations`).

    Args:
        images: float32[n, d], unit rows.
        texts: float32[m, d], unit rows, at least one.
        step_ends: int64[S], increasing from 1 or more to m; step k has `texts[:step_ends[k]]`. Default: one step with
            all texts.
        block: images per block.

    Returns:
        int32[n, S], indices of texts.

    Raises:
        ValueError: an embedding is not finite.

    >>> texts = np.array([[1, 0], [0, 1], [0, 1]], dtype=np.float32)
    >>> nearest_categories(np.array([[0.6, 0.8], [0.8, 0.6]], dtype=np.float32), texts, np.array([1, 3])).tolist()
    [[0, 1], [0, 0]]
    """
    ends = np.array([len(texts)]) if step_ends is None else np.asarray(step_ends)
    check_finite(texts, "texts")
    check_finite(images, "images")
    nearest = np.empty((len(images), len(ends)), dtype=np.int32)
    gap = np.float32(2 * cosine_bound(texts.shape[1], largest_norm(images) * largest_norm(texts)))
    size = min(block, len(images)) * int(np.diff(ends, prepend=0).max())

    def label(product: Float32, first: int) -> None:
        part = slice(first, first + block)
        near = _propose(images[part], texts, ends, gap, product, nearest[part])
        if len(near[0]):
            _decide(images[part], texts, ends, near, nearest[part])

    run_blocks(
        range(0, len(images), block),
        lambda: np.empty(size, dtype=np.float32),
        label,
        max_threads=max(1, MAX_PRODUCT_BYTES // (4 * size + 1)),
    )
    return nearest


def _propose(
    images: Float32, texts: Float32, ends: Int64, gap: np.float32, product: Float32, nearest: Int32
) -> tuple[Int64, Int64]:
    """Write the nearest texts of a block in float32; return the pairs of image and text that are in a near tie."""
    all_rows = np.arange(len(images))
    best, text = np.full(len(images), -np.inf, dtype=np.float32), np.zeros(len(images), dtype=np.int32)
    near: list[tuple[Int64, Int64]] = []
    for k, (start, end) in enumerate(pairwise([0, *ends.tolist()])):
        if start < end:
            cosines = product[: len(images) * (end - start)].reshape(len(images), end - start)
            np.matmul(images, texts[start:end].T, out=cosines)
            columns = cosines.argmax(axis=1)
            values = cosines[all_rows, columns]
            rows = np.flatnonzero(values >= best - gap)
            close = cosines[rows] >= (np.maximum(values, best) - gap)[rows, None]
            tied = (count_true(close) > 1) | (values[rows] <= best[rows] + gap)
            row, column = np.nonzero(close[tied])
            near.append((rows[tied][row], column + start))
            better = values > best
            best[better], text[better] = values[better], columns[better] + start
        nearest[:, k] = text
    rows, columns = (np.concatenate(parts) for parts in zip(*near, strict=True))
    return rows, columns


def _decide(images: Float32, texts: Float32, ends: Int64, near: tuple[Int64, Int64], nearest: Int32) -> None:
    """Correct the nearest texts of the images with a near tie, by the float64 dot products of the close texts.

    The nearest text of a step in float64 is the nearest in float32, or was close to the nearest when it was added.
    """
    tied = np.unique(near[0])
    proposed = np.repeat(tied, len(ends)), nearest[tied].ravel()
    pairs = np.unique(np.concatenate([near, proposed], axis=1), axis=1)
    first, row = np.unique(pairs[0], return_index=True, return_inverse=True)[1:]
    position = np.arange(len(row)) - first[row]
    shape = len(tied), int(position.max()) + 1
    candidates, cosines = np.full(shape, len(texts)), np.full(shape, -np.inf)
    candidates[row, position] = pairs[1]
    cosines[row, position] = exact_cosines(images, texts, *pairs)
    winners = prefix_argmax(cosines)
    for k, end in enumerate(ends.tolist()):
        last = (candidates < end).sum(axis=1) - 1
        nearest[tied, k] = candidates[np.arange(len(tied)), winners[np.arange(len(tied)), last]]
