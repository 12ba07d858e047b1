"""All scores of a ladder on a device, with the kernel's own predictions, ranks and ceiling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from numpy.typing import NDArray

from semscale.accelerate.find import find_device
from semscale.accelerate.independence import equal_bits
from semscale.errors import SemscaleError
from semscale.scoring.aggregations import LOGIT_SCALE, rule_of
from semscale.scoring.checks import check_arrays, check_finite, check_range
from semscale.scoring.kernel import AGGREGATIONS, BLOCK, LadderScores, join_scores, score_aggregations
from semscale.scoring.plan import Float32, Int32, LadderPlan, plan_ladder

if TYPE_CHECKING:
    from semscale.accelerate.device import DeviceLadder, Part  # brings torch along

# blocks that the device, and then the kernel, gets at once
_MOST_BLOCKS = 16
_MOST_BYTES = 2 << 30


@dataclass(frozen=True)
class DeviceScores:
    """Scores, and how they were found.

    Attributes:
        scores: what :func:`semscale.scoring.score_aggregations` gives, by aggregation.
        on_device: how many images the device scored; the rest were too few for a block.
        again: how many of these the kernel scored again, because something in them is near a tie.
    """

    scores: dict[str, LadderScores]
    on_device: int
    again: int


class _Options(TypedDict):
    block: int
    confidence: bool
    ceiling: bool
    logit_scale: float


def score_on_device(
    images: Float32,
    texts: Float32,
    class_index: Int32,
    step_ends: NDArray[np.int64],
    true_class: Int32,
    aggregations: Sequence[str] = AGGREGATIONS,
    *,
    device: str,
    start: int = 0,
    stop: int | None = None,
    block: int = BLOCK,
    confidence: bool = False,
    ceiling: bool = False,
    logit_scale: float = LOGIT_SCALE,
) -> DeviceScores:
    """Score every step of a ladder on a device; step k multiplies only the texts that step k adds, in full float32.

    Predictions, ranks and ceiling are the kernel's, bit for bit. The two products differ in their last bits, so an
    image for which any of them, at any step, hinges on a smaller gap than :mod:`semscale.accelerate.doubt` allows is
    scored by the kernel again, among others that fill a block, or with its whole block where the kernel's product
    depends on the place of a row. What is left over of the last block is the kernel's alone. Margins and
    confidences are the device's: a margin is off by no more than the two bounds of its classes, together 1.3e-4 for
    cosines of d = 512 under `max`, and a confidence by no more than a factor exp(2 b t), b the bound of a class and t
    the logit scale; they are usually off by 1e-6.

    Memory beyond inputs and outputs: on the device the texts and for each image `4 * (texts of the widest step + a *
    classes)` bytes, a up to 18 for all of `AGGREGATIONS`, for one block on the CPU, and elsewhere for as many as 16 of
    them within 2 GiB; on the host that of the kernel, and 16 blocks of images.

    Args:
        images, texts, class_index, step_ends, true_class, aggregations, start, stop, block, confidence, ceiling,
            logit_scale: as for :func:`semscale.scoring.score_aggregations`.
        device: a torch device: `cpu`, `cuda`, `cuda:1`, ...

    Raises:
        SemscaleError: torch is not installed; the device is not there, has too little memory or rounds more than
            float32; an unknown aggregation.
        ValueError: as the kernel.

    >>> images = np.eye(2, dtype=np.float32)
    >>> texts = np.array([[0.8, 0.6], [0.6, 0.8], [0.0, 1.0], [0.8, 0.6]], dtype=np.float32)
    >>> owners, ends, true = np.array([0, 1, 0, 1], np.int32), np.array([2, 4]), np.array([0, 1], np.int32)
    >>> found = score_on_device(images, texts, owners, ends, true, ("max",), device="cpu", block=1)
    >>> found.scores["max"].predicted_category.tolist(), found.on_device, found.again
    ([[0, 0], [1, 2]], 2, 1)
    """
    stop = len(images) if stop is None else stop
    check_range(start, stop, len(images), block)
    plan = plan_ladder(class_index, step_ends)
    check_arrays(images, texts, true_class, plan)
    check_finite(texts, "texts")
    options: _Options = {
        "block": block,
        "confidence": confidence,
        "ceiling": ceiling,
        "logit_scale": logit_scale,
    }

    def kernel(of_images: Float32, of_true: Int32, first: int, last: int) -> dict[str, LadderScores]:
        return score_aggregations(
            of_images, texts, class_index, step_ends, of_true, aggregations, start=first, stop=last, **options
        )

    end = start + (stop - start) // block * block
    rest = kernel(images, true_class, end, stop)
    if end == start:
        return DeviceScores(rest, 0, 0)
    for first in range(start, end, block):
        check_finite(images[first : first + block], f"images {first} to {first + block - 1}")
    bits = equal_bits(np.ascontiguousarray(images[start : start + block]), texts, plan.steps)
    ladder = _on_device(plan, texts, aggregations, device, confidence, ceiling, logit_scale, bits.of_columns)
    blocks = 1 if device == "cpu" else max(1, min(_MOST_BLOCKS, _MOST_BYTES // (ladder.row_bytes * block)))
    if not ladder.multiplies_in_full_float32(blocks * block):
        raise SemscaleError(
            "the scoring device does not multiply in full float32, so its scores would be of no use",
            found=f"device {device}",
            hint="look for TF32 in this machine's environment variables, or score on the device cpu",
        )
    parts = [
        _scored(ladder, images, true_class, first, min(first + blocks * block, end))
        for first in range(start, end, blocks * block)
    ]
    scores = {name: join_scores([_as_scores(part, name, plan) for part in parts]) for name in aggregations}
    doubtful = np.flatnonzero(np.concatenate([part.doubt for part in parts]))
    for rows, filled in _again(doubtful, bits.of_rows, block):
        right = kernel(images[start + filled], true_class[start + filled], 0, len(filled))
        for name, whole in scores.items():
            _replace(whole, rows, right[name])
    joined = {name: join_scores([whole, rest[name]]) for name, whole in scores.items()}
    return DeviceScores(joined, end - start, len(doubtful))


def _on_device(
    plan: LadderPlan,
    texts: Float32,
    aggregations: Sequence[str],
    device: str,
    confidence: bool,
    ceiling: bool,
    logit_scale: float,
    alike: bool,
) -> DeviceLadder:
    rules = {name: None if name == "max" else rule_of(name, plan, texts, logit_scale) for name in aggregations}
    torch_device = find_device(device)
    from semscale.accelerate.device import DeviceLadder
    from semscale.accelerate.states import repeated_texts

    again = repeated_texts(plan, texts) if alike else np.zeros(len(texts), dtype=np.bool_)
    return DeviceLadder(plan, texts, rules, again, torch_device, confidence, ceiling, logit_scale)


def _scored(ladder: DeviceLadder, images: Float32, true_class: Int32, first: int, last: int) -> Part:
    import torch

    try:
        return ladder.score(images[first:last], true_class[first:last])
    except torch.OutOfMemoryError as error:
        raise SemscaleError(
            "the scoring device has too little memory",
            found=str(error).partition("\n")[0],
            hint=f"{(last - first) * ladder.row_bytes >> 20} MiB for images at work are needed; or score on the CPU",
        ) from error


def _as_scores(part: Part, name: str, plan: LadderPlan) -> LadderScores:
    found = part.answers[name]
    owners = plan.class_index[found.category]
    return LadderScores(found.category, owners, found.true_rank, found.margin, found.confidence, part.ceiling)


_Rows = NDArray[np.int64]


def _again(doubtful: _Rows, independent: bool, block: int) -> Iterator[tuple[_Rows, _Rows]]:
    """Yield images, and whole blocks of images that begin with them, in which the kernel finds for them what it found
    had they stayed in their own."""
    if not independent:
        for number in np.unique(doubtful // block).tolist():
            rows = np.arange(number * block, (number + 1) * block)
            yield rows, rows
        return
    for first in range(0, len(doubtful), _MOST_BLOCKS * block):
        rows = doubtful[first : first + _MOST_BLOCKS * block]
        yield rows, np.concatenate([rows, np.repeat(rows[:1], -len(rows) % block)])


def _replace(scores: LadderScores, rows: _Rows, right: LadderScores) -> None:
    for name in ("predicted_category", "predicted_class", "true_rank", "margin", "confidence", "ceiling"):
        getattr(scores, name)[rows] = getattr(right, name)[: len(rows)]
