"""Paired bootstrap of whole curves: images are drawn once per replicate for all steps, and orders beside them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from semscale.analysis.answer_patterns import Bool, Float64, Int64, Patterns, count_patterns

REPLICATES = 2000
"""Default number of replicates."""

_MOST_CELLS = 4_000_000  # images drawn at once: 32 MB


def resample(patterns: Patterns, replicates: int = REPLICATES, seed: int = 0) -> Float64:
    """Return resampled curves, float64[B, S]: accuracies at all steps for B resamples of the images.

    Every replicate draws n images with replacement and keeps their whole rows, so differences between steps
    are paired. With several orders it also draws O orders with replacement, independently of the images
    (the two-way "pigeonhole" bootstrap: A. B. Owen, "The pigeonhole bootstrap", Annals of Applied Statistics
    1 (2007), 386-411), so the spread holds for other orders too, and errs to the wide side.

    Raises:
        ValueError: fewer than two replicates.

    >>> patterns = count_patterns(np.arange(100)[:, None] < np.array([60, 80]))
    >>> curves = resample(patterns, replicates=500)
    >>> curves.shape, curves.mean(axis=0).round(2).tolist()
    ((500, 2), [0.6, 0.8])
    """
    return resample_arms([patterns], replicates, seed)[0]


def resample_pair(first: Bool, second: Bool, replicates: int = REPLICATES, seed: int = 0) -> tuple[Float64, Float64]:
    """Return resampled curves of two arms on the same images, two float64[B, S].

    A replicate uses the same draw of images for both arms, and for each arm its own draw of orders.

    Args:
        first, second: bool[n, S] or bool[O, n, S] each; the numbers of orders and of steps may differ.
        replicates, seed: as in :func:`resample`.

    Raises:
        ValueError: the arms have different numbers of images.
    """
    arms = [marks[None] if marks.ndim == 2 else marks for marks in map(np.asarray, (first, second))]
    sizes = [marks.shape[1] for marks in arms]
    if sizes[0] != sizes[1]:
        raise ValueError(f"expected arms on the same images, but got {sizes[0]} and {sizes[1]}")
    shapes = [(marks.shape[0], marks.shape[2]) for marks in arms]
    flat = np.concatenate([marks.transpose(1, 0, 2).reshape(sizes[0], -1) for marks in arms], axis=1)
    joint = count_patterns(flat)
    edge = shapes[0][0] * shapes[0][1]
    columns = joint.rows[:, 0]
    parts = [
        Patterns(part.reshape(-1, *shape), joint.counts)
        for part, shape in zip((columns[:, :edge], columns[:, edge:]), shapes, strict=True)
    ]
    curves = resample_arms(parts, replicates, seed)
    return curves[0], curves[1]


def resample_arms(arms: Sequence[Patterns], replicates: int, seed: int) -> list[Float64]:
    """Return resampled curves, one float64[B, S] each, of arms with equal `counts`, row by row the same images."""
    if replicates < 2:
        raise ValueError(f"expected at least two replicates, but got {replicates}")
    rng = np.random.default_rng(seed)
    counts = arms[0].counts
    n, u = int(counts.sum()), len(counts)
    tables = [arm.rows.reshape(u, -1).astype(np.float64) for arm in arms]
    means = [np.empty((replicates, table.shape[1])) for table in tables]
    block = max(1, _MOST_CELLS // n)
    for start in range(0, replicates, block):
        size = min(block, replicates - start)
        weights = _draw(counts, size, rng).astype(np.float64)
        for mean, table in zip(means, tables, strict=True):
            mean[start : start + size] = weights @ table / n
    curves = []
    for mean, arm in zip(means, arms, strict=True):
        orders = arm.n_orders
        picks = rng.multinomial(orders, np.full(orders, 1 / orders), size=replicates) / orders
        curves.append(np.einsum("bo,bos->bs", picks, mean.reshape(replicates, orders, arm.n_steps)))
    return curves


def _draw(counts: Int64, size: int, rng: np.random.Generator) -> Int64:
    """Return how often each distinct row comes in `size` resamples of all images, int64[size, u]."""
    n, u = int(counts.sum()), len(counts)
    if 8 * u < n:
        return rng.multinomial(n, counts / n, size=size)
    # a binomial draw costs as much as eight images: with many distinct rows it is quicker to draw the images
    row = np.repeat(np.arange(u), counts)
    drawn = row[rng.integers(n, size=(size, n))]
    drawn += np.arange(size)[:, None] * u
    return np.bincount(drawn.ravel(), minlength=size * u).reshape(size, u)
