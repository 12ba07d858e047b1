"""How the texts of a ladder fall into steps, and the texts of a step into layers with one text per class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]
Index = slice | NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Layer:
    """New texts of one step, at most one for each class.

    Attributes:
        number: counts the layers of the whole ladder; a class's later texts lie in layers of higher number.
        columns: where the texts stand among the new texts of the step.
        classes: the classes of these texts, in the same order. Both are slices wherever the positions allow
            it, so that numpy works on views instead of copies.
        column_of: int32[n_classes], the column of each class's text, or -1 for a class without a text here.
    """

    number: int
    columns: Index
    classes: Index
    column_of: Int32


@dataclass(frozen=True, slots=True)
class Step:
    """The texts `start:stop` that one step adds, as layers; a step may add nothing."""

    start: int
    stop: int
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class LadderPlan:
    """A ladder prepared for the kernel.

    Attributes:
        class_index: int32[m], the class of each text.
        n_classes: how many classes there are.
        steps: the texts that each step adds.
        layer_texts: int32[layers, n_classes], the text of each class in each layer, or -1.
    """

    class_index: Int32
    n_classes: int
    steps: tuple[Step, ...]
    layer_texts: Int32

    @property
    def widest(self) -> int:
        """The largest number of texts that one step adds."""
        return max(step.stop - step.start for step in self.steps)

    @property
    def class_counts(self) -> NDArray[np.int64]:
        """int64[S, n_classes], the texts of each class at each step."""
        return np.stack([np.bincount(self.class_index[: step.stop], minlength=self.n_classes) for step in self.steps])


def plan_ladder(class_index: Int32, step_ends: NDArray[np.int64]) -> LadderPlan:
    """Return the plan of a flattened ladder.

    Args:
        class_index: int[m], the class of each text; every class 0, 1, ... must have a text in the first step.
        step_ends: int[S], rising; step k offers the texts before `step_ends[k]`, the last step offers all.

    Raises:
        ValueError: when the arrays do not describe such a ladder.

    >>> plan = plan_ladder(np.array([0, 1, 0, 1, 1], np.int32), np.array([2, 5]))
    >>> [[layer.columns for layer in step.layers] for step in plan.steps]
    [[slice(0, 2, 1)], [slice(0, 2, 1), slice(2, 3, 1)]]
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
    steps: list[Step] = []
    layer_texts: list[Int32] = []
    for start, stop in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True):
        layers = _layers(owners[start:stop], n_classes, first=len(layer_texts))
        layer_texts += [np.where(layer.column_of < 0, -1, layer.column_of + start) for layer in layers]
        steps.append(Step(start, stop, tuple(layers)))
    return LadderPlan(owners, n_classes, tuple(steps), np.array(layer_texts, dtype=np.int32))


def _layers(owners: Int32, n_classes: int, first: int) -> list[Layer]:
    # The texts of a class, in their order, go to layers 0, 1, 2, ... of the step.
    order = np.argsort(owners, kind="stable")
    ordered = owners[order]
    occurrence = np.empty(owners.size, dtype=np.intp)
    occurrence[order] = np.arange(owners.size) - np.searchsorted(ordered, ordered)
    layers: list[Layer] = []
    for depth in range(int(occurrence.max(initial=-1)) + 1):
        columns = np.flatnonzero(occurrence == depth)
        column_of = np.full(n_classes, -1, dtype=np.int32)
        column_of[owners[columns]] = columns
        classes = owners[columns].astype(np.intp)
        layers.append(Layer(first + depth, _as_slice(columns), _as_slice(classes), column_of))
    return layers


def _as_slice(positions: NDArray[np.intp]) -> Index:
    if positions.size == 1:
        return slice(int(positions[0]), int(positions[0]) + 1, 1)
    gap = int(positions[1] - positions[0])
    if gap > 0 and (np.diff(positions) == gap).all():
        return slice(int(positions[0]), int(positions[-1]) + 1, gap)
    return positions
