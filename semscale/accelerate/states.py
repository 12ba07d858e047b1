"""The running state of images on a device: that of :mod:`semscale.scoring.running`, and the runner-up of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from semscale.scoring.plan import Float32, LadderPlan, Layer
from semscale.scoring.running import Needs

Index = slice | torch.Tensor


@dataclass(frozen=True)
class DeviceLayer:
    """A layer of a step, on the device.

    Attributes:
        number, columns, classes: as in :class:`semscale.scoring.plan.Layer`.
        texts: int32[texts of the layer], which texts these are.
        again: bool[texts of the layer], which of them repeat an earlier text of their class; None for none.
    """

    number: int
    columns: Index
    classes: Index
    texts: torch.Tensor
    again: torch.Tensor | None


def repeated_texts(plan: LadderPlan, texts: Float32) -> NDArray[np.bool_]:
    """Return bool[m]: which texts have, bit for bit, the embedding of an earlier text of the same class.

    >>> from semscale.scoring.plan import plan_ladder
    >>> plan = plan_ladder(np.array([0, 1, 0, 1], np.int32), np.array([2, 4]))
    >>> repeated_texts(plan, np.array([[1, 0], [0, 1], [1, 0], [1, 0]], np.float32)).tolist()
    [False, False, True, False]
    """
    seen: set[tuple[int, bytes]] = set()
    found = np.zeros(len(texts), dtype=np.bool_)
    for index, (owner, row) in enumerate(zip(plan.class_index.tolist(), texts, strict=True)):
        key = (owner, row.tobytes())
        found[index] = key in seen
        seen.add(key)
    return found


def device_layers(plan: LadderPlan, again: NDArray[np.bool_], device: torch.device) -> list[list[DeviceLayer]]:
    """Return the layers of each step on a device; `again` is bool[m], which texts cannot win against an earlier one."""

    def placed(layer: Layer, start: int, stop: int) -> DeviceLayer:
        texts = np.ascontiguousarray(np.arange(start, stop, dtype=np.int32)[layer.columns])
        repeated = again[texts]
        return DeviceLayer(
            layer.number,
            _index(layer.columns, device),
            _index(layer.classes, device),
            torch.from_numpy(texts).to(device),
            torch.from_numpy(repeated).to(device) if repeated.any() else None,
        )

    return [[placed(layer, step.start, step.stop) for layer in step.layers] for step in plan.steps]


class DeviceState:
    """The state of the images of one block.

    Attributes:
        maxima, sums, exp_sums, minima, others: as in :class:`semscale.scoring.running.Running`.
        top: float32[rows, n_classes], the largest cosine among texts that do not repeat one of their class.
        second: float32[rows, n_classes], the second largest among them, -inf where there is none.
        winner: int32[rows, n_classes], the text that has the largest.
    """

    def __init__(self, layers: Sequence[Sequence[DeviceLayer]], needs: Needs, logit_scale: float) -> None:
        self._needs = needs
        self._scale = float(np.float32(logit_scale))
        self._repeats = any(layer.again is not None for step in layers for layer in step)

    def merge(self, layer: DeviceLayer, similarities: torch.Tensor) -> None:
        """Merge a layer's columns of float32[rows, new texts of the step]; layer 0 begins anew."""
        new = similarities[:, layer.columns]
        if layer.number == 0:
            self._begin(layer, new)
            return
        if self._needs.sums:
            kept = self.sums[:, layer.classes]
            kept += new
            _put_back(self.sums, layer, kept)
        if self._needs.minima:
            _put_back(self.minima, layer, torch.minimum(self.minima[:, layer.classes], new))
        largest = self.maxima[:, layer.classes]
        if self._needs.exp_sums:
            self._merge_exp_sums(layer, new, largest)
        if self.others:
            self._merge_others(layer, new, largest)
        if self._repeats:
            _put_back(self.maxima, layer, torch.maximum(largest, new))
        self._merge_top(layer, new)

    def _begin(self, layer: DeviceLayer, new: torch.Tensor) -> None:
        # layer 0 has one text of every class
        def filled(content: torch.Tensor | float) -> torch.Tensor:
            array = torch.empty_like(new, memory_format=torch.contiguous_format)
            array[:, layer.classes] = content
            return array

        self.top = filled(new)
        self.maxima = filled(new) if self._repeats else self.top
        self.second = filled(-torch.inf)
        self.winner = torch.empty(new.shape, dtype=torch.int32, device=new.device)
        self.winner[:, layer.classes] = layer.texts
        unused = new.new_empty(0)
        self.sums = filled(new) if self._needs.sums else unused
        self.minima = filled(new) if self._needs.minima else unused
        self.exp_sums = filled(1.0) if self._needs.exp_sums else unused
        self.others = [filled(-torch.inf) for _ in range(self._needs.best - 1)]

    def _merge_top(self, layer: DeviceLayer, new: torch.Tensor) -> None:
        fresh = new if layer.again is None else new.masked_fill(layer.again, -torch.inf)
        top, second = self.top[:, layer.classes], self.second[:, layer.classes]
        won = torch.where(fresh > top, layer.texts, self.winner[:, layer.classes])
        _put_back(self.winner, layer, won)
        _put_back(self.second, layer, torch.maximum(second, torch.minimum(top, fresh)))
        _put_back(self.top, layer, torch.maximum(top, fresh))

    def _merge_exp_sums(self, layer: DeviceLayer, new: torch.Tensor, largest: torch.Tensor) -> None:
        sums = self.exp_sums[:, layer.classes]
        ratio = (new - largest).abs_().mul_(-self._scale).exp_()
        _put_back(self.exp_sums, layer, torch.where(new > largest, sums * ratio + 1, sums + ratio))

    def _merge_others(self, layer: DeviceLayer, new: torch.Tensor, largest: torch.Tensor) -> None:
        down = torch.minimum(largest, new)
        for others in self.others:
            kept = others[:, layer.classes]
            smaller = torch.minimum(kept, down)
            _put_back(others, layer, torch.maximum(kept, down))
            down = smaller


def _index(index: slice | NDArray[np.intp], device: torch.device) -> Index:
    return index if isinstance(index, slice) else torch.from_numpy(index).to(device)


def _put_back(array: torch.Tensor, layer: DeviceLayer, changed: torch.Tensor) -> None:
    array[:, layer.classes] = changed
