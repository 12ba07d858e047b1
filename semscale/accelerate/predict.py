"""Predictions of all steps under `max`, screened where that is faster, equal to the kernel's bit for bit."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from semscale.accelerate.find import find_device
from semscale.accelerate.resolve import ExactRows, resolve, rows_are_independent
from semscale.scoring.checks import check_finite
from semscale.scoring.kernel import BLOCK, LadderScores, join_scores, score_aggregations
from semscale.scoring.plan import Float32, Int32, LadderPlan, plan_ladder

if TYPE_CHECKING:
    from semscale.accelerate.screen import Screen  # brings torch along


@dataclass(frozen=True)
class Accelerated:
    """Predictions and how they were found.

    Attributes:
        scores: what :func:`semscale.scoring.score_ladder` gives with ``ranks=False``.
        screened: how many images were screened, the others went through the float32 kernel.
        why: in words, why not all of them, or how much faster it was.
    """

    scores: LadderScores
    screened: int
    why: str


def predict_screened(
    images: Float32,
    texts: Float32,
    class_index: Int32,
    step_ends: NDArray[np.int64],
    device: str = "cpu",
    block: int = BLOCK,
    always: bool = False,
) -> Accelerated:
    """Return the predictions of `max` at every step, without ranks, margins and confidences.

    The first block goes through the float32 kernel and the second through the screen, both timed; the faster one
    does the rest. The last block, if it is not full, goes through the kernel, and so does everything where the
    device is `cpu` and does not multiply bfloat16 matrices. Ranks, margins and confidences need the similarities
    themselves, so they are the kernel's alone. Memory beyond inputs and outputs is that of the kernel, `m * d * 2`
    bytes for the rounded texts, and `block * texts of the widest step * 11` bytes, on the device.

    Args:
        images, texts, class_index, step_ends, block: as for :func:`semscale.scoring.score_aggregations`.
        device: a torch device.
        always: screen every full block, whatever it takes.

    Raises:
        SemscaleError: torch is not installed, or the device is not there.
        ValueError: as the kernel.

    >>> images = np.eye(2, dtype=np.float32)
    >>> texts = np.array([[0.8, 0.6], [0.6, 0.8], [0.0, 1.0], [0.8, 0.6]], dtype=np.float32)
    >>> found = predict_screened(images, texts, np.array([0, 1, 0, 1], np.int32), np.array([2, 4]))
    >>> found.scores.predicted_category.tolist(), found.screened
    ([[0, 0], [1, 2]], 0)
    """
    plan = plan_ladder(class_index, step_ends)
    nothing_true = np.zeros(len(images), dtype=np.int32)

    def kernel(start: int, stop: int) -> LadderScores:
        return score_aggregations(
            images,
            texts,
            class_index,
            step_ends,
            nothing_true,
            ("max",),
            start=start,
            stop=stop,
            block=block,
            ranks=False,
        )["max"]

    full = len(images) // block
    if not always and device == "cpu" and not bfloat16_is_fast():
        return Accelerated(kernel(0, len(images)), 0, "this CPU does not multiply bfloat16 matrices")
    if full < (1 if always else 3):
        return Accelerated(kernel(0, len(images)), 0, "too few images to find out whether it pays")
    begun = time.perf_counter()
    pieces = [kernel(0, 0 if always else block)]
    kernel_seconds = time.perf_counter() - begun
    screen = _screen(texts, plan, device)
    independent = rows_are_independent(np.ascontiguousarray(images[:block]), texts, plan.steps)
    for number in range(len(pieces[0].predicted_category) // block, full):
        rows = slice(number * block, (number + 1) * block)
        check_finite(images[rows], f"images {rows.start} to {rows.stop - 1}")
        begun = time.perf_counter()
        here = np.ascontiguousarray(images[rows])
        exact = ExactRows(here, texts, independent)
        category = resolve(screen.candidates(here), here, texts, screen.t_norm, plan.steps, exact)
        seconds = time.perf_counter() - begun
        pieces.append(_only_predictions(category, plan))
        if number == 1 and not always and seconds > kernel_seconds:
            break
    done = sum(len(piece.predicted_category) for piece in pieces)
    screened = done - (0 if always else block)
    pieces.append(kernel(done, len(images)))
    why = f"{seconds / kernel_seconds:.2f} times the kernel's time per block" if not always else "always, as asked"
    return Accelerated(join_scores(pieces), screened, why)


def bfloat16_is_fast(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether this CPU multiplies bfloat16 matrices (AMX).

    With the instructions for bfloat16 vectors alone (AVX-512) screening takes 1.3 to 1.5 times as long as float32.
    """
    return cpuinfo.exists() and "amx_bf16" in cpuinfo.read_text().split()


def _screen(texts: Float32, plan: LadderPlan, device: str) -> Screen:
    find_device(device)
    from semscale.accelerate.screen import Screen

    return Screen(texts, plan.steps, device)


def _only_predictions(category: Int32, plan: LadderPlan) -> LadderScores:
    none = np.empty((len(category), 0), dtype=np.float32)
    return LadderScores(category, plan.class_index[category], none.astype(np.int32), none, none, none.astype(np.bool_))
