"""Plan of a ladder for the kernel: steps of new texts, layers with one text per class, texts by class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
Index = slice | NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Layer:
    """New texts of one step, at most one for each class.

    Attributes:
        columns: indices among the new texts of the step.
        classes: the classes of these texts. Both are slices where possible, so that numpy uses views instead of copies.
    """

    columns: Index
    classes: Index


@dataclass(frozen=True, slots=True)
class Step:
    """The texts `start:stop` that one step adds, in layers."""

    start: int
    stop: int
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class LadderPlan:
    """A ladder prepared for the kernel.

    Attributes:
        class_index: int32[m], the class of each text.
        n_classes: number of classes.
        steps: the texts that each step adds; steps that add nothing are left out.
        step_of: int64[S], for each step of the ladder its index in `steps`.
        class_counts: int64[len(steps), n_classes], the number of texts of each class at each step.
        by_class: int64[m], the texts sorted by class, and within a class as in the ladder.
        class_starts: int64[n_classes], the start of each class in `by_class`.
    """

    class_index: Int32
    n_classes: int
    steps: tuple[Step, ...]
    step_of: NDArray[np.int64]
    class_counts: NDArray[np.int64]
    by_class: NDArray[np.int64]
    class_starts: NDArray[np.int64]

    @property
    def widest(self) -> int:
        """Return the largest number of texts that one step adds."""
        return max(step.stop - step.start for step in self.steps)


def plan_ladder(class_index: Int32, step_ends: NDArray[np.int64]) -> LadderPlan:
    """Return the plan of a flattened ladder.

    Args:
        class_index: int[m], the class of each text; every class 0, 1, ... must have a text in the first step.
        step_ends: int[S], increasing; step k has the texts before `step_ends[k]`, the last step all.

    Raises:
        ValueError: the arrays do not describe such a ladder.

    >>> plan = plan_ladder(np.array([0, 1, 0, 1, 1], np.int32), np.array([2, 5, 5]))
    >>> [[layer.columns for layer in step.layers] for step in plan.steps], plan.step_of.tolist()
    ([[slice(0, 2, 1)], [slice(0, 2, 1), slice(2, 3, 1)]], [0, 1, 1])
    """
    owners = np.asarray(class_index, dtype=np.int32)
    ends = np.asarray(step_ends, dtype=np.int64)
    if owners.ndim != 1 or ends.ndim != 1 or not owners.size or not ends.size:
        raise ValueError(f"expected vectors of classes and step ends, got {owners.shape} and {ends.shape}")
    if ends[0] < 1 or (np.diff(ends) < 0).any() or ends[-1] != owners.size:
        raise ValueError(f"expected step ends that rise to {owners.size}, but got {ends.tolist()}")
    n_classes = int(owners.max()) + 1
    if set(owners[: ends[0]].tolist()) != set(range(n_classes)):
        raise ValueError(f"expected a text for each of {n_classes} classes in the first step")
    stops, step_of = np.unique(ends, return_inverse=True)
    steps = tuple(
        Step(start, stop, _layers(owners[start:stop]))
        for start, stop in zip([0, *stops[:-1].tolist()], stops.tolist(), strict=True)
    )
    counts = np.stack([np.bincount(owners[:stop], minlength=n_classes) for stop in stops.tolist()])
    starts = np.cumsum(counts[-1]) - counts[-1]
    return LadderPlan(owners, n_classes, steps, step_of, counts, np.argsort(owners, kind="stable"), starts)


def _layers(owners: Int32) -> tuple[Layer, ...]:
    # the texts of a class are in layers 0, 1, 2, ... of the step
    by_class = np.argsort(owners, kind="stable")
    ordered = owners[by_class]
    occurrence = np.empty(owners.size, dtype=np.intp)
    occurrence[by_class] = np.arange(owners.size) - np.searchsorted(ordered, ordered)
    by_layer = [np.flatnonzero(occurrence == depth) for depth in range(int(occurrence.max()) + 1)]
    return tuple(Layer(_as_slice(columns), _as_slice(owners[columns].astype(np.intp))) for columns in by_layer)


def _as_slice(indices: NDArray[np.intp]) -> Index:
    if indices.size == 1:
        return slice(int(indices[0]), int(indices[0]) + 1, 1)
    stride = int(indices[1] - indices[0])
    if stride > 0 and (np.diff(indices) == stride).all():
        return slice(int(indices[0]), int(indices[-1]) + 1, stride)
    return indices
