"""Scores of images on a device with torch, and which of them are so near a tie that only the kernel's bits decide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from semscale.accelerate.bound import norms
from semscale.accelerate.doubt import Reach, cosine_reach, reach_of
from semscale.accelerate.states import DeviceState, device_layers
from semscale.scoring.aggregations import LogSumExp, Rule, ScaledSums, TopMean
from semscale.scoring.ceiling import NEEDS
from semscale.scoring.passes import Answers
from semscale.scoring.plan import Float32, Int32, LadderPlan
from semscale.scoring.running import Needs


@dataclass(frozen=True)
class Part:
    """What the device found for some images.

    Attributes:
        answers: by aggregation, [rows, S]; wrong, perhaps, where there is doubt.
        ceiling: bool[rows, S].
        doubt: bool[rows], whether anything in a row may be other than what the kernel finds.
    """

    answers: dict[str, Answers]
    ceiling: NDArray[np.bool_]
    doubt: NDArray[np.bool_]


class DeviceLadder:
    """The texts of a ladder on a device, and the aggregations that are wanted of it.

    Args:
        plan: the ladder.
        texts: float32[m, d].
        rules: the aggregations; None for `max`.
        again: bool[m], texts that cannot win because an earlier one of their class is the same.
        device: a torch device.
        confidence, logit_scale: as for the kernel.
        ceiling: whether the ceiling is wanted too.
    """

    def __init__(
        self,
        plan: LadderPlan,
        texts: Float32,
        rules: Mapping[str, Rule | None],
        again: NDArray[np.bool_],
        device: torch.device,
        confidence: bool,
        ceiling: bool,
        logit_scale: float,
    ) -> None:
        self._plan, self._rules, self._device = plan, rules, device
        self._confidence, self._ceiling, self._logit_scale = confidence, ceiling, logit_scale
        self._needs = Needs.of([*(rule.needs for rule in rules.values() if rule), *([NEEDS] if ceiling else [])])
        self._layers = device_layers(plan, again, device)
        self._texts = torch.tensor(texts).to(device)
        self._t_norm = float(norms(texts).max())
        self._cosine = cosine_reach(texts.shape[1])
        self._reaches = {name: reach_of(rule, plan, texts.shape[1]) for name, rule in rules.items()}
        self._weights = {
            name: torch.from_numpy(rule.weights).to(device)
            for name, rule in rules.items()
            if isinstance(rule, (ScaledSums, TopMean))
        }
        self._there = {
            name: torch.from_numpy(rule.counts).to(device) for name, rule in rules.items() if isinstance(rule, TopMean)
        }

    @property
    def row_bytes(self) -> int:
        """Return about how many bytes an image takes on the device: its similarities, its state, what is in work."""
        arrays = 9 + self._needs.best + 2 * self._needs.sums + 2 * self._needs.exp_sums + self._needs.minima
        return 4 * (self._plan.widest + arrays * self._plan.n_classes)

    def multiplies_in_full_float32(self, rows: int) -> bool:
        """Return whether a product of as many images keeps the last bit of its numbers, which the bounds need."""
        last_bit = 1 + 2.0**-23
        left, right = (torch.zeros((n, self._texts.shape[1]), device=self._device) for n in (rows, self._plan.widest))
        left[:, 0], right[:, 0] = last_bit, 1
        with _full_float32():
            return bool((torch.mm(left, right.T) == last_bit).all())

    def score(self, images: Float32, true_class: Int32) -> Part:
        """Score float32[rows, d] images of true classes int32[rows]."""
        with _full_float32(), torch.inference_mode():
            return self._score(images, true_class)

    def _score(self, images: Float32, true_class: Int32) -> Part:
        rows, steps = len(images), len(self._plan.steps)
        own = torch.tensor(images).to(self._device)
        # float32 from float64, so it may be a rounding too small; the bounds have room for that
        size = torch.from_numpy((norms(images) * self._t_norm).astype(np.float32)).to(self._device)[:, None]
        true = torch.from_numpy(true_class.astype(np.int64)).to(self._device)[:, None]
        doubt = torch.zeros(rows, dtype=torch.bool, device=self._device)
        found = {name: _Columns(rows, steps, self._confidence, self._device) for name in self._rules}
        reach = torch.empty((rows, steps if self._ceiling else 0), dtype=torch.bool, device=self._device)
        state = DeviceState(self._layers, self._needs, self._logit_scale)
        for k, step in enumerate(self._plan.steps):
            if step.stop > step.start:
                similarities = torch.mm(own, self._texts[step.start : step.stop].T)
                for layer in self._layers[k]:
                    state.merge(layer, similarities)
            for name, rule in self._rules.items():
                scores = self._class_scores(name, rule, state, k)
                predicted = self._answer(k, scores, true, found[name])
                bounds = self._bounds(self._reaches[name], k, size)
                doubt |= _unsure(scores, bounds, true) | _unsure(scores, bounds, predicted)
                gap = (state.top - state.second).gather(1, predicted)
                doubt |= (gap <= 2 * self._cosine * size)[:, 0]
                found[name].category[:, k] = state.winner.gather(1, predicted)[:, 0]
            if self._ceiling:
                floor = state.minima.scatter(1, true, -torch.inf).amax(dim=1)
                lead = state.maxima.gather(1, true)[:, 0] - floor
                reach[:, k] = lead > 0
                doubt |= lead.abs() <= 2 * self._cosine * size[:, 0]
        answers = {name: columns.answers() for name, columns in found.items()}
        return Part(answers, reach.cpu().numpy(), doubt.cpu().numpy())

    def _class_scores(self, name: str, rule: Rule | None, state: DeviceState, k: int) -> torch.Tensor:
        if isinstance(rule, ScaledSums):
            return state.sums * self._weights[name][k]
        if isinstance(rule, LogSumExp):
            return state.exp_sums.log().div_(float(rule.scale)).add_(state.maxima)
        if isinstance(rule, TopMean):
            scores = state.maxima.clone()
            for place, others in enumerate(state.others[: rule.kept - 1], start=1):
                scores += others.masked_fill(self._there[name][k] <= place, 0)
            return scores.mul_(self._weights[name][k])
        return state.maxima

    def _answer(self, k: int, scores: torch.Tensor, true: torch.Tensor, out: _Columns) -> torch.Tensor:
        """Write rank, margin and confidence, and return the predicted class, int64[rows, 1]."""
        best, predicted = scores.max(dim=1, keepdim=True)
        own = scores.gather(1, true)
        out.rank[:, k] = (scores > own).sum(dim=1)
        out.margin[:, k] = own[:, 0] - scores.scatter(1, true, -torch.inf).amax(dim=1)
        if self._confidence:
            terms = (scores - best).mul_(float(np.float32(self._logit_scale))).exp_()
            out.confidence[:, k] = 1 / terms.sum(dim=1)
        return predicted

    def _bounds(self, reach: Reach, k: int, size: torch.Tensor) -> torch.Tensor:
        per_norm, fixed = (
            torch.from_numpy(each[k].astype(np.float32)).to(self._device) for each in (reach.per_norm, reach.fixed)
        )
        return size * per_norm + fixed


class _Columns:
    def __init__(self, rows: int, steps: int, confidence: bool, device: torch.device) -> None:
        def column(dtype: torch.dtype, wanted: bool = True) -> torch.Tensor:
            return torch.empty((rows, steps if wanted else 0), dtype=dtype, device=device)

        self.category, self.rank = column(torch.int32), column(torch.int32)
        self.margin, self.confidence = column(torch.float32), column(torch.float32, confidence)

    def answers(self) -> Answers:
        found = (self.category, self.rank, self.margin, self.confidence)
        return Answers(*(each.cpu().numpy() for each in found))


def _unsure(scores: torch.Tensor, bounds: torch.Tensor, pivot: torch.Tensor) -> torch.Tensor:
    """Return bool[rows]: whether another class may be on either side of the class `pivot`, int64[rows, 1]."""
    gaps = (scores - scores.gather(1, pivot)).abs_()
    of_pivot = bounds.gather(1, pivot) if bounds.shape[1] > 1 else bounds
    near = gaps <= bounds + of_pivot
    # a class is always near itself
    return near.sum(dim=1) > 1


@contextmanager
def _full_float32() -> Iterator[None]:
    """No TF32 and no bfloat16 inside products for the time of the context: the bounds are those of float32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
