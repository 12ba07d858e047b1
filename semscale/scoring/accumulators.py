"""Accumulators: running statistics of the cosines per image and class, as required by the aggregations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semscale.scoring.plan import Float32, Layer


@dataclass(frozen=True, slots=True)
class RequiredStatistics:
    """Statistics of a class's cosines that an aggregation requires; several aggregations share them.

    Attributes:
        sums: the sum of the cosines.
        exp_sums: the sum of exp(t (s - m)) over the cosines s, m the largest and t the logit scale.
        best: the number of largest cosines; 1 for the maximum alone.
        minima: the smallest cosine.
    """

    sums: bool = False
    exp_sums: bool = False
    best: int = 0
    minima: bool = False

    @staticmethod
    def union(requirements: Iterable[RequiredStatistics]) -> RequiredStatistics:
        """Return the statistics that are in any of the requirements.

        >>> RequiredStatistics.union([RequiredStatistics(sums=True), RequiredStatistics(best=3)])
        RequiredStatistics(sums=True, exp_sums=False, best=3, minima=False)
        """
        required = list(requirements)
        return RequiredStatistics(
            sums=any(each.sums for each in required),
            exp_sums=any(each.exp_sums for each in required),
            best=max((max(each.best, int(each.exp_sums)) for each in required), default=0),
            minima=any(each.minima for each in required),
        )


class Workspace:
    """Temporary arrays of one thread, reused for every tile: two of float32 and one of bool per image and class."""

    def __init__(self, rows: int, n_classes: int) -> None:
        self._floats = np.empty((2, rows * n_classes), dtype=np.float32)
        self._mask = np.empty(rows * n_classes, dtype=np.bool_)

    def floats(self, index: int, shape: tuple[int, ...]) -> Float32:
        """Return float array 0 or 1 in this shape, uninitialised."""
        return self._floats[index, : shape[0] * shape[1]].reshape(shape)

    def mask(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Return the bool array in this shape, uninitialised."""
        return self._mask[: shape[0] * shape[1]].reshape(shape)


class Accumulators:
    """Running statistics of up to `rows` images, reset by the first layer of a ladder.

    Attributes:
        maxima, sums, exp_sums, minima: float32[rows, n_classes], or no columns if not required.
        runners_up: float32[best - 1, rows, n_classes], the second, third, ... largest cosine, -inf if there is none.
    """

    def __init__(self, rows: int, n_classes: int, required: RequiredStatistics, logit_scale: float) -> None:
        def array(used: bool) -> Float32:
            return np.empty((rows, n_classes if used else 0), dtype=np.float32)

        self._required = required
        self._scale = np.float32(logit_scale)
        self.maxima, self.sums = array(required.best > 0), array(required.sums)
        self.exp_sums, self.minima = array(required.exp_sums), array(required.minima)
        self.runners_up = np.empty((max(0, required.best - 1), *self.maxima.shape), dtype=np.float32)

    def begin(self, layer: Layer, similarities: Float32) -> None:
        """Initialise with the first layer of a ladder, which has one text of every class."""
        new = similarities[:, layer.columns]
        for array in (self.maxima, self.sums, self.minima):
            if array.shape[1]:
                array[: len(new), layer.classes] = new
        self.exp_sums[: len(new)] = 1.0
        self.runners_up[:, : len(new)] = -np.inf

    def update(self, layer: Layer, similarities: Float32, workspace: Workspace) -> None:
        """Merge a further layer's columns of float32[rows, new texts of the step]."""
        new = similarities[:, layer.columns]
        n, required = len(new), self._required
        if required.sums:
            sums = self.sums[:n, layer.classes]
            sums += new
            _write_back(self.sums, layer, sums)
        if required.minima:
            minima = self.minima[:n, layer.classes]
            np.minimum(minima, new, out=minima)
            _write_back(self.minima, layer, minima)
        if required.best:
            maxima = self.maxima[:n, layer.classes]
            if required.exp_sums:
                self._update_exp_sums(layer, new, maxima, workspace)
            if len(self.runners_up):
                self._update_runners_up(layer, new, maxima, workspace)
            np.maximum(maxima, new, out=maxima)
            _write_back(self.maxima, layer, maxima)

    def _update_exp_sums(self, layer: Layer, new: Float32, maxima: Float32, workspace: Workspace) -> None:
        sums = self.exp_sums[: len(new), layer.classes]
        larger = np.greater(new, maxima, out=workspace.mask(new.shape))
        # of the two terms, the larger one has the factor 1 and the smaller one this ratio
        ratio = np.subtract(new, maxima, out=workspace.floats(0, new.shape))
        np.abs(ratio, out=ratio)
        ratio *= -self._scale
        np.exp(ratio, out=ratio)
        # no branch per element: the maximum of a ratio, which is at most 1, and a truth value chooses between them
        sums *= np.maximum(ratio, ~larger, out=workspace.floats(1, new.shape))
        sums += np.maximum(ratio, larger, out=ratio)
        _write_back(self.exp_sums, layer, sums)

    def _update_runners_up(self, layer: Layer, new: Float32, maxima: Float32, workspace: Workspace) -> None:
        # insertion into a sorted list: each keeps the larger value and passes the smaller one down
        down, spare = (workspace.floats(index, new.shape) for index in (0, 1))
        np.minimum(maxima, new, out=down)
        for position, runners_up in enumerate(self.runners_up):
            kept = runners_up[: len(new), layer.classes]
            if position < len(self.runners_up) - 1:
                np.minimum(kept, down, out=spare)
            np.maximum(kept, down, out=kept)
            _write_back(runners_up, layer, kept)
            down, spare = spare, down


def _write_back(array: Float32, layer: Layer, changed: Float32) -> None:
    # columns selected by a slice are a view and changed already, those selected by an index array are a copy
    if not isinstance(layer.classes, slice):
        array[: len(changed), layer.classes] = changed
