"""Paired bootstrap of accuracy curves: each replicate draws images, and orders, once for all steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from semscale.analysis.answer_patterns import Bool, CorrectnessPatterns, Float64, Int64, count_patterns

REPLICATES = 2000
"""Default number of replicates."""

_MAX_DRAWS = 4_000_000  # images drawn at a time: 32 MB


def resample(patterns: CorrectnessPatterns, replicates: int = REPLICATES, seed: int = 0) -> Float64:
    """Return bootstrap replicates of a curve, float64[B, S]: accuracies of all steps for B resamples of the images.

    Every replicate draws n images with replacement and keeps their whole rows, so differences between steps are paired.
    With several orders it also draws O orders with replacement, independently of the images (the two-way "pigeonhole"
    bootstrap: A. B. Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1 (2007), 386-411), so the variance
    includes that between orders and is conservative.

    Raises:
        ValueError: fewer than two replicates.

    >>> patterns = count_patterns(np.arange(100)[:, None] < np.array([60, 80]))
    >>> curves = resample(patterns, replicates=500)
    >>> curves.shape, curves.mean(axis=0).round(2).tolist()
    ((500, 2), [0.6, 0.8])
    """
    return resample_arms([patterns], replicates, seed)[0]


def resample_pair(first: Bool, second: Bool, replicates: int = REPLICATES, seed: int = 0) -> tuple[Float64, Float64]:
    """Return replicates of the curves of two arms on the same images, two float64[B, S].

    A replicate uses one draw of images for both arms, and a separate draw of orders for each arm.

    Args:
        first, second: correctness, bool[n, S] or bool[O, n, S]; the numbers of orders and of steps may differ.
        replicates, seed: as in :func:`resample`.

    Raises:
        ValueError: the arms have different numbers of images.
    """
    arms = [arm[None] if arm.ndim == 2 else arm for arm in map(np.asarray, (first, second))]
    sizes = [arm.shape[1] for arm in arms]
    if sizes[0] != sizes[1]:
        raise ValueError(f"expected arms on the same images, but got {sizes[0]} and {sizes[1]}")
    shapes = [(arm.shape[0], arm.shape[2]) for arm in arms]
    joint = count_patterns(np.concatenate([arm.transpose(1, 0, 2).reshape(sizes[0], -1) for arm in arms], axis=1))
    n_first = shapes[0][0] * shapes[0][1]
    columns = joint.rows[:, 0]
    patterns = [
        CorrectnessPatterns(rows.reshape(-1, *shape), joint.counts)
        for rows, shape in zip((columns[:, :n_first], columns[:, n_first:]), shapes, strict=True)
    ]
    curves = resample_arms(patterns, replicates, seed)
    return curves[0], curves[1]


def resample_arms(arms: Sequence[CorrectnessPatterns], replicates: int, seed: int) -> list[Float64]:
    """Return replicates of each arm, float64[B, S]; the arms have equal `counts`, and equal rows are equal images."""
    if replicates < 2:
        raise ValueError(f"expected at least two replicates, but got {replicates}")
    rng = np.random.default_rng(seed)
    counts = arms[0].counts
    n, u = int(counts.sum()), len(counts)
    tables = [arm.rows.reshape(u, -1).astype(np.float64) for arm in arms]
    means = [np.empty((replicates, table.shape[1])) for table in tables]
    block = max(1, _MAX_DRAWS // n)
    for start in range(0, replicates, block):
        size = min(block, replicates - start)
        weights = _resample_counts(counts, size, rng).astype(np.float64)
        for mean, table in zip(means, tables, strict=True):
            mean[start : start + size] = weights @ table / n
    curves = []
    for mean, arm in zip(means, arms, strict=True):
        orders = arm.n_orders
        order_weights = rng.multinomial(orders, np.full(orders, 1 / orders), size=replicates) / orders
        curves.append(np.einsum("bo,bos->bs", order_weights, mean.reshape(replicates, orders, arm.n_steps)))
    return curves


def _resample_counts(counts: Int64, size: int, rng: np.random.Generator) -> Int64:
    """Return how often each distinct row occurs in `size` resamples of all images, int64[size, u]."""
    n, u = int(counts.sum()), len(counts)
    if 8 * u < n:
        return rng.multinomial(n, counts / n, size=size)
    # a binomial draw costs as much as eight images: with many distinct rows, drawing the images is faster
    row = np.repeat(np.arange(u), counts)
    drawn = row[rng.integers(n, size=(size, n))]
    drawn += np.arange(size)[:, None] * u
    return np.bincount(drawn.ravel(), minlength=size * u).reshape(size, u)
