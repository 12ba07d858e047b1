"""The kernel with torch, on a GPU or the CPU: it proposes as numpy does, and the same float64 decisions follow.

Predictions, ranks and the ceiling are therefore equal to those of :func:`semscale.scoring.score_aggregations`; margins
and confidences may differ by the rounding of float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from semscale.common.errors import SemscaleError
from semscale.scoring.accumulators import RequiredStatistics
from semscale.scoring.aggregations import (
    AGGREGATIONS,
    Aggregation,
    LogSumExp,
    ScaledSum,
    TopMean,
    aggregation_named,
    cosine_bound,
)
from semscale.scoring.decisions import Answers, Bool, Decider, NearTies
from semscale.scoring.kernel import LadderInputs, LadderScores, ScoreOptions, check_range, ladder_scores
from semscale.scoring.plan import Float32, Int32, Layer
from semscale.scoring.tiles import ORACLE

try:
    import torch
except ImportError as error:
    hint = "pip install 'semscale[server]', or score without it"
    raise SemscaleError("scoring on a device needs torch", found=str(error), hint=hint) from error

Index = slice | torch.Tensor

# blocks that a GPU gets at once
_MOST_BLOCKS, _MOST_BYTES = 16, 2 << 30


@dataclass(frozen=True)
class DeviceScores:
    """Scores, and how many images were near a tie.

    Attributes:
        scores: as of :func:`semscale.scoring.score_aggregations`, by aggregation.
        rescored: number of images of which some score was computed again in float64.
    """

    scores: dict[str, LadderScores]
    rescored: int


def find_device(name: str) -> torch.device:
    """Return a torch device: `cpu`, `cuda`, `cuda:1`, ...

    Raises:
        SemscaleError: the device does not exist.
    """
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            raise SemscaleError(
                "there is no GPU that torch can use", found=f"device {name}", hint="score on the device cpu"
            )
        if (device.index or 0) >= count:
            raise SemscaleError("there is no such GPU", found=f"device {name}", expected=f"cuda:0 to cuda:{count - 1}")
    return device


def score_on_device(
    inputs: LadderInputs,
    aggregations: Sequence[str] = AGGREGATIONS,
    options: ScoreOptions | None = None,
    *,
    device: str,
    start: int = 0,
    stop: int | None = None,
) -> DeviceScores:
    """Score every step of a ladder on a device, in full float32; step k multiplies only the texts that step k adds.

    Memory beyond inputs and outputs: on the device the texts and for each image `4 * (texts of the widest step + a *
    classes)` bytes, a up to 18 for all of `AGGREGATIONS`, for one block on the CPU, and elsewhere for as many as 16 of
    them within 2 GiB.

    Args:
        inputs, aggregations, options, start, stop: as for :func:`semscale.scoring.score_aggregations`.
        device: a torch device: `cpu`, `cuda`, `cuda:1`, ...

    Raises:
        SemscaleError: the device does not exist, has too little memory or rounds more than float32; an unknown
            aggregation.
        ValueError: as the kernel.

    >>> images = np.eye(2, dtype=np.float32)
    >>> texts = np.array([[0.8, 0.6], [0.6, 0.8], [0.0, 1.0], [0.8, 0.6]], dtype=np.float32)
    >>> owners, ends, true = np.array([0, 1, 0, 1], np.int32), np.array([2, 4]), np.array([0, 1], np.int32)
    >>> found = score_on_device(LadderInputs(images, texts, owners, ends, true), ("max",), device="cpu")
    >>> found.scores["max"].predicted_category.tolist(), found.rescored
    ([[0, 0], [1, 2]], 1)
    """
    options = options or ScoreOptions()
    stop = len(inputs.images) if stop is None else stop
    check_range(start, stop, len(inputs.images), options.block)
    plan = inputs.plan()
    rules = {name: aggregation_named(name, plan, inputs.texts, options.logit_scale) for name in aggregations}
    decider = Decider(plan, inputs.texts, inputs.images[start:stop])
    scorer = _DeviceScorer(decider, rules, options, find_device(device))
    blocks = 1 if device == "cpu" else max(1, min(_MOST_BLOCKS, _MOST_BYTES // (scorer.row_bytes * options.block)))
    n, n_steps, rows = stop - start, len(plan.steps), blocks * options.block
    if n and not scorer.multiplies_in_full_float32(min(n, rows)):
        what = "the scoring device does not multiply in full float32, so its scores would be of no use"
        hint = "look for TF32 in this machine's environment variables, or score on the device cpu"
        raise SemscaleError(what, found=f"device {device}", hint=hint)
    answers = {name: Answers.empty(n, n_steps, options.confidence) for name in rules}
    oracle = np.empty((n, n_steps if options.ceiling else 0), dtype=np.bool_)
    rescored = 0
    for first in range(start, stop, rows):
        last = min(first + rows, stop)
        part = slice(first - start, last - start)
        outs = {name: out.part(part) for name, out in answers.items()}
        try:
            rescored += scorer.score(*inputs.block(first, last), outs, oracle[part])
        except torch.OutOfMemoryError as error:
            what = "the scoring device has too little memory"
            hint = f"{rows * scorer.row_bytes >> 20} MiB for images at work are needed; or score on the CPU"
            raise SemscaleError(what, found=str(error).partition("\n")[0], hint=hint) from error
    return DeviceScores(ladder_scores(inputs.images[start:stop], answers, oracle, decider), rescored)


class _DeviceScorer:
    """The texts and aggregations of a ladder on a device."""

    def __init__(
        self, decider: Decider, aggregations: Mapping[str, Aggregation], options: ScoreOptions, device: torch.device
    ) -> None:
        self._decider, self._aggregations, self._device = decider, aggregations, device
        self._scale = float(np.float32(options.logit_scale))
        required = [each.required for each in aggregations.values()]
        self._required = RequiredStatistics.union([*required, ORACLE] if options.ceiling else required)
        self._texts = torch.tensor(decider.texts).to(device)
        self._layers = [[_on_device(layer, device) for layer in step.layers] for step in decider.plan.steps]
        self._weights = {
            name: torch.from_numpy(each.weights).to(device)
            for name, each in aggregations.items()
            if isinstance(each, ScaledSum | TopMean)
        }
        self._terms = {
            name: torch.from_numpy(each.terms).to(device)
            for name, each in aggregations.items()
            if isinstance(each, TopMean)
        }

    @property
    def row_bytes(self) -> int:
        """About how many bytes an image takes on the device: its similarities, its statistics, temporary arrays."""
        required = self._required
        arrays = 6 + required.best + 2 * required.sums + 2 * required.exp_sums + required.minima
        return 4 * (self._decider.plan.widest + arrays * self._decider.plan.n_classes)

    def multiplies_in_full_float32(self, rows: int) -> bool:
        """Return whether a product of as many images keeps the last bit of its numbers, which the bounds need."""
        last_bit = 1 + 2.0**-23
        sizes = (rows, self._decider.plan.widest)
        left, right = (torch.zeros((n, self._texts.shape[1]), device=self._device) for n in sizes)
        left[:, 0], right[:, 0] = last_bit, 1
        with _full_float32():
            return bool((torch.mm(left, right.T) == last_bit).all())

    def score(self, images: Float32, true_class: Int32, outs: Mapping[str, Answers], oracle: Bool) -> int:
        """Fill the answers for some images, and return how many of them were near a tie."""
        near = {name: NearTies() for name in self._aggregations}
        near_oracle = NearTies()
        with _full_float32(), torch.inference_mode():
            self._propose(images, true_class, outs, oracle, near | {"": near_oracle})
        ties = [part[0] for each in (*near.values(), near_oracle) for part in each.parts]
        for name, aggregation in self._aggregations.items():
            self._decider.decide(aggregation, images, true_class, near[name], outs[name])
        self._decider.decide_oracle(images, true_class, near_oracle, oracle)
        return len(np.unique(np.concatenate(ties))) if ties else 0

    def _propose(
        self,
        images: Float32,
        true_class: Int32,
        outs: Mapping[str, Answers],
        oracle: Bool,
        near: Mapping[str, NearTies],
    ) -> None:
        own = torch.tensor(images).to(self._device)
        true = torch.from_numpy(true_class.astype(np.int64)).to(self._device)[:, None]
        state = _Statistics(self._required, self._scale)
        for k, step in enumerate(self._decider.plan.steps):
            similarities = torch.mm(own, self._texts[step.start : step.stop].T)
            for number, layer in enumerate(self._layers[k]):
                new = similarities[:, layer[0]]
                state.update(layer[1], new) if k or number else state.begin(layer[1], new)
            for name, aggregation in self._aggregations.items():
                scores = self._class_scores(name, aggregation, state, k)
                gap = 2 * aggregation.error_bound(k, self._decider.size)
                near[name].add(*self._answer(scores, true, k, gap, outs[name]))
            if oracle.shape[1]:
                gap = 2 * cosine_bound(images.shape[1], self._decider.size)
                minima = state.minima.scatter(1, true, -torch.inf)
                floor = minima.amax(dim=1, keepdim=True)
                lead = state.maxima.gather(1, true) - floor
                oracle[:, k] = (lead > 0)[:, 0].cpu().numpy()
                close = (lead.abs() <= gap)[:, 0].nonzero()[:, 0]
                marks = (minima[close] >= floor[close] - gap).scatter(1, true[close], True)
                near[""].add(close.cpu().numpy(), k, marks.cpu().numpy())

    def _class_scores(self, name: str, aggregation: Aggregation, state: _Statistics, k: int) -> torch.Tensor:
        if isinstance(aggregation, ScaledSum):
            return state.sums * self._weights[name][k]
        if isinstance(aggregation, LogSumExp):
            return state.exp_sums.log().div_(self._scale).add_(state.maxima)
        if isinstance(aggregation, TopMean):
            scores = state.maxima.clone()
            for position, runners_up in enumerate(state.runners_up[: aggregation.kept - 1], start=1):
                scores += runners_up.masked_fill(self._terms[name][k] <= position, 0)
            return scores.mul_(self._weights[name][k])
        return state.maxima

    def _answer(
        self, scores: torch.Tensor, true: torch.Tensor, k: int, gap: float, out: Answers
    ) -> tuple[np.ndarray, int, Bool]:
        """Fill column k, and return near ties as :class:`NearTies` takes them."""
        best, predicted = scores.max(dim=1, keepdim=True)
        own = scores.gather(1, true)
        out.predicted_class[:, k] = torch.where(own == best, true, predicted)[:, 0].cpu().numpy()
        out.margin[:, k] = (own - scores.scatter(1, true, -torch.inf).amax(dim=1, keepdim=True))[:, 0].cpu().numpy()
        if out.confidence.shape[1]:
            out.confidence[:, k] = (1 / (scores - best).mul_(self._scale).exp_().sum(dim=1)).cpu().numpy()
        # one threshold for both: what is not certainly before the true class is near it, whatever the rounding
        before = scores > own + gap
        near = (scores >= best - gap) | ((scores >= own - gap) & ~before)
        certain = before.sum(dim=1)
        out.true_rank[:, k] = certain.cpu().numpy()
        # clear are images in which all that is near is the true class itself, and the best one
        close = (near.sum(dim=1) > torch.where(certain > 0, 2, 1)).nonzero()[:, 0]
        marks = near[close]
        base = ((scores[close] > own[close]) & ~marks).sum(dim=1).cpu().numpy()
        rows = close.cpu().numpy()
        out.true_rank[rows, k] = base
        return rows, k, marks.cpu().numpy()


class _Statistics:
    """What :class:`semscale.scoring.accumulators.Accumulators` keeps, for the images at work."""

    def __init__(self, required: RequiredStatistics, scale: float) -> None:
        self._required, self._scale = required, scale

    def begin(self, classes: Index, new: torch.Tensor) -> None:
        def filled(content: torch.Tensor | float, wanted: bool = True) -> torch.Tensor:
            array = new.new_empty(new.shape if wanted else 0)
            if wanted:
                array[:, classes] = content
            return array

        required = self._required
        self.maxima, self.sums = filled(new, required.best > 0), filled(new, required.sums)
        self.minima, self.exp_sums = filled(new, required.minima), filled(1.0, required.exp_sums)
        self.runners_up = [filled(-torch.inf) for _ in range(required.best - 1)]

    def update(self, classes: Index, new: torch.Tensor) -> None:
        required = self._required
        if required.sums:
            self.sums[:, classes] += new
        if required.minima:
            self.minima[:, classes] = torch.minimum(self.minima[:, classes], new)
        if not required.best:
            return
        maxima = self.maxima[:, classes]
        if required.exp_sums:
            sums = self.exp_sums[:, classes]
            ratio = (new - maxima).abs_().mul_(-self._scale).exp_()
            self.exp_sums[:, classes] = torch.where(new > maxima, sums * ratio + 1, sums + ratio)
        down = torch.minimum(maxima, new)
        for runners_up in self.runners_up:
            kept = runners_up[:, classes]
            smaller = torch.minimum(kept, down)
            runners_up[:, classes] = torch.maximum(kept, down)
            down = smaller
        self.maxima[:, classes] = torch.maximum(maxima, new)


def _on_device(layer: Layer, device: torch.device) -> tuple[Index, Index]:
    def index(positions: slice | np.ndarray) -> Index:
        return positions if isinstance(positions, slice) else torch.from_numpy(positions).to(device)

    return index(layer.columns), index(layer.classes)


@contextmanager
def _full_float32() -> Iterator[None]:
    """No TF32 and no bfloat16 inside products for the time of the context: the bounds are those of float32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
