"""Torch backend of the kernel, on a GPU or the CPU, with the float64 decisions of the numpy kernel.

Predictions, ranks and the ceiling are therefore equal to those of :func:`semscale.scoring.score_aggregations`; margins
and confidences may differ by the rounding of float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from semscale.common.errors import ConfigError, SemscaleError
from semscale.scoring.accumulators import RequiredStatistics
from semscale.scoring.aggregations import (
    AGGREGATIONS,
    Aggregation,
    LogSumExp,
    ScaledSum,
    TopMean,
    cosine_bound,
    make_aggregation,
)
from semscale.scoring.decisions import Bool, Decider, NearTies, PredictionArrays
from semscale.scoring.kernel import LadderInputs, LadderScores, ScoreOptions, check_range, ladder_scores
from semscale.scoring.plan import Float32, Int32, Layer
from semscale.scoring.tiles import ORACLE

try:
    import torch
except ImportError as error:
    hint = "pip install 'semscale[server]', or score without it"
    raise SemscaleError("scoring on a device needs torch", found=str(error), hint=hint) from error

Index = slice | torch.Tensor

# limits of the blocks that a GPU scores at a time
_MAX_BLOCKS, _MAX_BYTES = 16, 2 << 30


@dataclass(frozen=True)
class DeviceScores:
    """Scores, and the number of images with a near tie.

    Attributes:
        scores: as of :func:`semscale.scoring.score_aggregations`, by aggregation.
        rescored: number of images with a score that was recomputed in float64.
    """

    scores: dict[str, LadderScores]
    rescored: int


def find_device(name: str) -> torch.device:
    """Return a torch device: `cpu`, `cuda`, `cuda:1`, ...

    Raises:
        ConfigError: the device does not exist.
    """
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            what, hint = "this machine has no GPU that torch can use", "score on the device cpu"
            raise ConfigError(what, found=f"device {name}", hint=hint)
        if (device.index or 0) >= count:
            raise ConfigError("the GPU does not exist", found=f"device {name}", expected=f"cuda:0 to cuda:{count - 1}")
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

    Memory besides inputs and outputs: on the device the texts, and `4 * (texts of the widest step + a * classes)` bytes
    per image, a up to 18 for all of `AGGREGATIONS`; for one block on the CPU, for up to 16 within 2 GiB on a GPU.

    Args:
        inputs, aggregations, options, start, stop: as for :func:`semscale.scoring.score_aggregations`.
        device: a torch device: `cpu`, `cuda`, `cuda:1`, ...

    Raises:
        ConfigError: unknown device or aggregation.
        SemscaleError: the device has too little memory or rounds more than float32.
        ValueError: as the kernel.

    >>> images = np.eye(2, dtype=np.float32)
    >>> texts = np.array([[0.8, 0.6], [0.6, 0.8], [0.0, 1.0], [0.8, 0.6]], dtype=np.float32)
    >>> owners, ends, true = np.array([0, 1, 0, 1], np.int32), np.array([2, 4]), np.array([0, 1], np.int32)
    >>> on_cpu = score_on_device(LadderInputs(images, texts, owners, ends, true), ("max",), device="cpu")
    >>> on_cpu.scores["max"].predicted_category.tolist(), on_cpu.rescored
    ([[0, 0], [1, 2]], 1)
    """
    options = options or ScoreOptions()
    stop = len(inputs.images) if stop is None else stop
    check_range(start, stop, len(inputs.images), options.block)
    plan = inputs.plan()
    by_name = {name: make_aggregation(name, plan, inputs.texts, options.logit_scale) for name in aggregations}
    decider = Decider(plan, inputs.texts, inputs.images[start:stop])
    scorer = _DeviceScorer(decider, by_name, options, find_device(device))
    blocks = 1 if device == "cpu" else max(1, min(_MAX_BLOCKS, _MAX_BYTES // (scorer.row_bytes * options.block)))
    n, n_steps, rows = stop - start, len(plan.steps), blocks * options.block
    if n and not scorer.multiplies_in_full_float32(min(n, rows)):
        what = "the scoring device does not multiply in full float32, so its scores are invalid"
        hint = "check this machine's environment variables for TF32, or score on the device cpu"
        raise SemscaleError(what, found=f"device {device}", hint=hint)
    arrays = {name: PredictionArrays.empty(n, n_steps, options.confidence) for name in by_name}
    oracle = np.empty((n, n_steps if options.ceiling else 0), dtype=np.bool_)
    rescored = 0
    for first in range(start, stop, rows):
        last = min(first + rows, stop)
        part = slice(first - start, last - start)
        outs = {name: out.view(part) for name, out in arrays.items()}
        try:
            rescored += scorer.score(*inputs.block(first, last), outs, oracle[part])
        except torch.OutOfMemoryError as error:
            what = "the scoring device has too little memory"
            hint = f"scoring needs {rows * scorer.row_bytes >> 20} MiB besides the texts; or score on the CPU"
            raise SemscaleError(what, found=str(error).partition("\n")[0], hint=hint) from error
    return DeviceScores(ladder_scores(inputs.images[start:stop], arrays, oracle, decider), rescored)


class _DeviceScorer:
    """Scorer of a ladder on a device, which holds its texts and aggregations."""

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
        """Return the approximate memory of an image on the device: similarities, statistics, temporary arrays."""
        required = self._required
        arrays = 6 + required.best + 2 * required.sums + 2 * required.exp_sums + required.minima
        return 4 * (self._decider.plan.widest + arrays * self._decider.plan.n_classes)

    def multiplies_in_full_float32(self, rows: int) -> bool:
        """Return whether products of this size keep the last bit of float32, as the error bounds require."""
        last_bit = 1 + 2.0**-23
        sizes = (rows, self._decider.plan.widest)
        left, right = (torch.zeros((n, self._texts.shape[1]), device=self._device) for n in sizes)
        left[:, 0], right[:, 0] = last_bit, 1
        with _full_float32():
            return bool((torch.mm(left, right.T) == last_bit).all())

    def score(self, images: Float32, true_class: Int32, outs: Mapping[str, PredictionArrays], oracle: Bool) -> int:
        """Write the outputs of some images, and return how many of them had a near tie."""
        near = {name: NearTies() for name in self._aggregations}
        near_oracle = NearTies()
        with _full_float32(), torch.inference_mode():
            self._propose(images, true_class, outs, oracle, near | {"": near_oracle})
        ties = [triples[0] for each in (*near.values(), near_oracle) for triples in each.triples]
        for name, aggregation in self._aggregations.items():
            self._decider.decide(aggregation, images, true_class, near[name], outs[name])
        self._decider.decide_oracle(images, true_class, near_oracle, oracle)
        return len(np.unique(np.concatenate(ties))) if ties else 0

    def _propose(
        self,
        images: Float32,
        true_class: Int32,
        outs: Mapping[str, PredictionArrays],
        oracle: Bool,
        near: Mapping[str, NearTies],
    ) -> None:
        rows = torch.tensor(images).to(self._device)
        true = torch.from_numpy(true_class.astype(np.int64)).to(self._device)[:, None]
        state = _DeviceAccumulators(self._required, self._scale)
        for k, step in enumerate(self._decider.plan.steps):
            similarities = torch.mm(rows, self._texts[step.start : step.stop].T)
            for index, (columns, classes) in enumerate(self._layers[k]):
                new = similarities[:, columns]
                state.update(classes, new) if k or index else state.begin(classes, new)
            for name, aggregation in self._aggregations.items():
                scores = self._class_scores(name, aggregation, state, k)
                gap = 2 * aggregation.error_bound(k, self._decider.size)
                near[name].add(*self._predict(scores, true, k, gap, outs[name]))
            if oracle.shape[1]:
                gap = 2 * cosine_bound(images.shape[1], self._decider.size)
                minima = state.minima.scatter(1, true, -torch.inf)
                floor = minima.amax(dim=1, keepdim=True)
                lead = state.maxima.gather(1, true) - floor
                oracle[:, k] = (lead > 0)[:, 0].cpu().numpy()
                close = (lead.abs() <= gap)[:, 0].nonzero()[:, 0]
                tied = (minima[close] >= floor[close] - gap).scatter(1, true[close], True)
                near[""].add(close.cpu().numpy(), k, tied.cpu().numpy())

    def _class_scores(self, name: str, aggregation: Aggregation, state: _DeviceAccumulators, k: int) -> torch.Tensor:
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

    def _predict(
        self, scores: torch.Tensor, true: torch.Tensor, k: int, gap: float, out: PredictionArrays
    ) -> tuple[np.ndarray, int, Bool]:
        """Write column k, and return near ties as arguments of :meth:`NearTies.add`."""
        best, predicted = scores.max(dim=1, keepdim=True)
        true_score = scores.gather(1, true)
        out.predicted_class[:, k] = torch.where(true_score == best, true, predicted)[:, 0].cpu().numpy()
        rival_score = scores.scatter(1, true, -torch.inf).amax(dim=1, keepdim=True)
        out.margin[:, k] = (true_score - rival_score)[:, 0].cpu().numpy()
        if out.confidence.shape[1]:
            out.confidence[:, k] = (1 / (scores - best).mul_(self._scale).exp_().sum(dim=1)).cpu().numpy()
        # one threshold for both, so that with any rounding a score is either certainly before the true class or near it
        before = scores > true_score + gap
        near = (scores >= best - gap) | ((scores >= true_score - gap) & ~before)
        certain = before.sum(dim=1)
        out.true_rank[:, k] = certain.cpu().numpy()
        # an image has no tie if only the true class and the best one are near
        close = (near.sum(dim=1) > torch.where(certain > 0, 2, 1)).nonzero()[:, 0]
        tied = near[close]
        rank = ((scores[close] > true_score[close]) & ~tied).sum(dim=1).cpu().numpy()
        rows = close.cpu().numpy()
        out.true_rank[rows, k] = rank
        return rows, k, tied.cpu().numpy()


class _DeviceAccumulators:
    """:class:`semscale.scoring.accumulators.Accumulators` on a device."""

    def __init__(self, required: RequiredStatistics, scale: float) -> None:
        self._required, self._scale = required, scale

    def begin(self, classes: Index, new: torch.Tensor) -> None:
        def filled(content: torch.Tensor | float, used: bool = True) -> torch.Tensor:
            array = new.new_empty(new.shape if used else 0)
            if used:
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
    def index(indices: slice | np.ndarray) -> Index:
        return indices if isinstance(indices, slice) else torch.from_numpy(indices).to(device)

    return index(layer.columns), index(layer.classes)


@contextmanager
def _full_float32() -> Iterator[None]:
    """Disable TF32 and bfloat16 in matrix products during the context: the error bounds are those of float32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
