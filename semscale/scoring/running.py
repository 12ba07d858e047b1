"""The running state of a strip of images: per class, what the aggregations need of the cosines of its texts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semscale.scoring.plan import Float32, LadderPlan, Layer

Winners = NDArray[np.unsignedinteger]


@dataclass(frozen=True, slots=True)
class Needs:
    """What has to be kept; the state of several aggregations is kept once.

    Attributes:
        maxima: the largest cosine.
        winners: which layer holds it.
        sums: the sum of the cosines.
        exp_sums: the sum of exp(t (s - m)) over the cosines s, m the largest and t the logit scale.
        best: how many of the largest cosines.
        minima: the smallest cosine.
    """

    maxima: bool = False
    winners: bool = False
    sums: bool = False
    exp_sums: bool = False
    best: int = 0
    minima: bool = False

    @staticmethod
    def of(several: Iterable[Needs]) -> Needs:
        """Return what covers them all.

        >>> Needs.of([Needs(sums=True), Needs(best=3)])
        Needs(maxima=False, winners=False, sums=True, exp_sums=False, best=3, minima=False)
        """
        needs = list(several)
        return Needs(
            maxima=any(need.maxima for need in needs),
            winners=any(need.winners for need in needs),
            sums=any(need.sums for need in needs),
            exp_sums=any(need.exp_sums for need in needs),
            best=max((need.best for need in needs), default=0),
            minima=any(need.minima for need in needs),
        )

    @property
    def any_class(self) -> bool:
        """Whether anything at all has to be kept per class."""
        return self != Needs()

    @property
    def any_maxima(self) -> bool:
        """Whether the largest cosine is wanted, or is part of something that is."""
        return self.maxima or self.winners or self.exp_sums or self.best > 0


class Scratch:
    """Working memory of one thread, for one strip after the other: three arrays of one number per image and class."""

    def __init__(self, rows: int, n_classes: int) -> None:
        self._floats = np.empty((2, rows * n_classes), dtype=np.float32)
        self._marks = np.empty(rows * n_classes, dtype=np.bool_)

    def floats(self, number: int, shape: tuple[int, ...]) -> Float32:
        """Return array 0 or 1 in this shape, with any content."""
        return self._floats[number, : shape[0] * shape[1]].reshape(shape)

    def marks(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Return the array of marks in this shape, with any content."""
        return self._marks[: shape[0] * shape[1]].reshape(shape)


class Running:
    """The state of up to `rows` images; made once and reset for each block.

    Attributes:
        maxima, sums, exp_sums, minima: float32[rows, n_classes], or no columns where they are not kept.
        winners: uint8 or uint32[rows, n_classes], the number of the layer that holds the largest cosine.
        others: float32[best - 1, rows, n_classes], the second, third, ... largest cosine, -inf where there is none.
    """

    def __init__(self, plan: LadderPlan, rows: int, needs: Needs, logit_scale: float) -> None:
        def kept(wanted: bool) -> Float32:
            return np.empty((rows, plan.n_classes if wanted else 0), dtype=np.float32)

        self._needs = needs
        self._scale = np.float32(logit_scale)
        small = len(plan.layer_texts) <= np.iinfo(np.uint8).max
        self.maxima, self.sums = kept(needs.any_maxima), kept(needs.sums)
        self.exp_sums, self.minima = kept(needs.exp_sums), kept(needs.minima)
        self.winners: Winners = np.empty(kept(needs.winners).shape, dtype=np.uint8 if small else np.uint32)
        self.others = np.empty((max(0, needs.best - 1), *self.maxima.shape), dtype=np.float32)

    def merge(self, layer: Layer, similarities: Float32, scratch: Scratch) -> None:
        """Merge a layer's columns of float32[rows, new texts of the step]; layer 0 begins anew."""
        new = similarities[:, layer.columns]
        if layer.number == 0:
            self._begin(layer, new)
            return
        n = len(new)
        if self._needs.sums:
            kept = self.sums[:n, layer.classes]
            kept += new
            _put_back(self.sums, layer, kept)
        if self._needs.minima:
            kept = self.minima[:n, layer.classes]
            np.minimum(kept, new, out=kept)
            _put_back(self.minima, layer, kept)
        if self._needs.any_maxima:
            self._merge_maxima(layer, new, scratch)

    def _begin(self, layer: Layer, new: Float32) -> None:
        # Every class has a text in the first step, so layer 0 has one text of every class.
        n = len(new)
        for array, wanted in (
            (self.maxima, self._needs.any_maxima),
            (self.sums, self._needs.sums),
            (self.minima, self._needs.minima),
        ):
            if wanted:
                array[:n, layer.classes] = new
        self.exp_sums[:n] = 1.0
        self.winners[:n] = 0
        self.others[:, :n] = -np.inf

    def _merge_maxima(self, layer: Layer, new: Float32, scratch: Scratch) -> None:
        n, needs = len(new), self._needs
        largest = self.maxima[:n, layer.classes]
        if needs.winners or needs.exp_sums:
            nearer = np.greater(new, largest, out=scratch.marks(new.shape))
        if needs.exp_sums:
            self._merge_exp_sums(layer, new, largest, nearer, scratch)
        if needs.winners:
            # Layer numbers only grow, so "the winner becomes this layer" is a maximum, faster than a masked copy.
            won = self.winners[:n, layer.classes]
            np.maximum(won, np.multiply(nearer, layer.number, dtype=won.dtype), out=won)
            _put_back(self.winners, layer, won)
        if len(self.others):
            self._merge_others(layer, new, largest, scratch)
        np.maximum(largest, new, out=largest)
        _put_back(self.maxima, layer, largest)

    def _merge_exp_sums(
        self, layer: Layer, new: Float32, largest: Float32, nearer: NDArray[np.bool_], scratch: Scratch
    ) -> None:
        sums = self.exp_sums[: len(new), layer.classes]
        # Of the two terms the larger one has the factor 1 and the other one this.
        ratio = np.subtract(new, largest, out=scratch.floats(0, new.shape))
        np.abs(ratio, out=ratio)
        ratio *= -self._scale
        np.exp(ratio, out=ratio)
        risen = np.multiply(sums, ratio, out=scratch.floats(1, new.shape))
        risen += 1
        sums += ratio
        np.copyto(sums, risen, where=nearer)
        _put_back(self.exp_sums, layer, sums)

    def _merge_others(self, layer: Layer, new: Float32, largest: Float32, scratch: Scratch) -> None:
        # From the largest down, each takes its place and hands the smaller one on.
        down, spare = (scratch.floats(number, new.shape) for number in (0, 1))
        np.minimum(largest, new, out=down)
        for place, others in enumerate(self.others):
            kept = others[: len(new), layer.classes]
            if place < len(self.others) - 1:
                np.minimum(kept, down, out=spare)
            np.maximum(kept, down, out=kept)
            _put_back(others, layer, kept)
            down, spare = spare, down


def _put_back(array: NDArray[np.generic], layer: Layer, changed: NDArray[np.generic]) -> None:
    # Columns taken by a slice are a view and changed already; those taken by an index array are a copy.
    if not isinstance(layer.classes, slice):
        array[: len(changed), layer.classes] = changed
