"""The theoretical maximum of a ladder: what the best choice among the offered categories could reach."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semscale.analysis.patterns import Bool


def oracle_correct(best_own: ArrayLike, rival_floor: ArrayLike) -> Bool:
    """Return which images some choice of the offered categories would label right, bool[n, S].

    A choice keeps any subset of the categories of a step, at least one for every class (a class without a
    category could not be predicted at all, and dropping all rivals would make every image right). Under `max`
    aggregation the choice that favours the true class most keeps its own best category and of each other class
    only the worst one, so an image can be labelled right exactly when its best own similarity is above the
    largest of the other classes' smallest similarities. The choice may differ from image to image: this is
    the ceiling of every way of choosing, not a set that exists. It never falls along a nested ladder, and at
    scale 1 it is the accuracy itself.

    Args:
        best_own: float[n, S], the largest similarity among the categories of the true class at each step.
        rival_floor: float[n, S], the largest, over the other classes, of the smallest similarity among the
            categories of that class.

    Raises:
        ValueError: when the shapes differ.

    >>> oracle_correct([[0.30, 0.30], [0.20, 0.26]], [[0.28, 0.25], [0.25, 0.25]]).tolist()
    [[True, True], [False, True]]
    """
    own, floor = np.asarray(best_own), np.asarray(rival_floor)
    if own.shape != floor.shape:
        raise ValueError(f"expected equal shapes, but got {list(own.shape)} and {list(floor.shape)}")
    return np.asarray(own > floor, dtype=np.bool_)


def oracle_bounds(
    similarity: NDArray[np.floating], class_index: ArrayLike, step_ends: ArrayLike, true_class: ArrayLike
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return `best_own` and `rival_floor` of :func:`oracle_correct`, each float[n, S], from similarities.

    Args:
        similarity: float[n, m], of n images to m categories.
        class_index: int[m], the class of each category; every class has one in the first step, and there are
            two classes or more.
        step_ends: int[S]; step k offers the first `step_ends[k]` categories.
        true_class: int[n].

    >>> similarity = np.array([[0.30, 0.28, 0.20, 0.25]])
    >>> own, floor = oracle_bounds(similarity, [0, 1, 0, 1], [2, 4], [0])
    >>> own.tolist(), floor.tolist()
    ([[0.3, 0.3]], [[0.28, 0.25]])
    """
    owners, ends, true = np.asarray(class_index), np.asarray(step_ends), np.asarray(true_class)
    n, classes = len(similarity), int(owners.max()) + 1
    largest = np.full((n, classes), -np.inf, dtype=similarity.dtype)
    smallest = np.full((n, classes), np.inf, dtype=similarity.dtype)
    own, floor = (np.empty((n, len(ends)), dtype=similarity.dtype) for _ in range(2))
    images = np.arange(n)
    start = 0
    for step, end in enumerate(ends.tolist()):
        for category in range(start, end):
            owner, values = owners[category], similarity[:, category]
            np.maximum(largest[:, owner], values, out=largest[:, owner])
            np.minimum(smallest[:, owner], values, out=smallest[:, owner])
        start = end
        own[:, step] = largest[images, true]
        rivals = smallest.copy()
        rivals[images, true] = -np.inf
        floor[:, step] = rivals.max(axis=1)
    return own, floor
