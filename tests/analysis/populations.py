"""Populations of images with a known true accuracy at every step, and samples drawn from them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np

from semscale.analysis.answer_patterns import CorrectnessPatterns, count_patterns

SIZE = 100_000

CURVES: dict[str, tuple[float, ...]] = {
    "flat": (0.70,) * 12,
    "plus two, then plateau": (0.70, 0.704, 0.708, 0.712, 0.716, *(0.72,) * 7),
    "rise, then fall": (0.70, 0.71, 0.72, 0.73, 0.735, 0.73, 0.72, 0.71, 0.70, 0.69, 0.68, 0.67),
}


@cache
def population(accuracies: tuple[float, ...], seed: int = 0) -> CorrectnessPatterns:
    """Return a population whose accuracies are exactly these.

    An image has a constant difficulty and a part that changes slowly from step to step, as nested sets of categories
    share most of their texts: 4 % of the predictions change between neighbours, 10 % from the first to the last step.
    """
    rng = np.random.default_rng(seed)
    drift = np.empty((SIZE, len(accuracies)))
    drift[:, 0] = rng.standard_normal(SIZE)
    for step in range(1, len(accuracies)):
        drift[:, step] = 0.9 * drift[:, step - 1] + np.sqrt(1 - 0.9**2) * rng.standard_normal(SIZE)
    ease = np.sqrt(0.9) * rng.standard_normal((SIZE, 1)) + np.sqrt(0.1) * drift
    rank = ease.argsort(axis=0).argsort(axis=0)
    return count_patterns(rank < np.round(np.array(accuracies) * SIZE))


def samples(accuracies: tuple[float, ...], n: int, count: int, seed: int = 0) -> Iterator[CorrectnessPatterns]:
    """Yield `count` samples of n images, drawn with replacement."""
    source = population(accuracies)
    for draw in np.random.default_rng(seed).multinomial(n, source.counts / SIZE, size=count):
        yield CorrectnessPatterns(source.rows[draw > 0], draw[draw > 0])


def true_critical_scale(accuracies: tuple[float, ...], margin: float) -> int:
    """Return the first step (counted from 1) after which no later accuracy is better by more than the margin."""
    for step, accuracy in enumerate(accuracies[:-1]):
        if max(accuracies[step + 1 :]) - accuracy <= margin + 1e-9:
            return step + 1
    return len(accuracies)
