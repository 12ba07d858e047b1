"""Fused ladder kernel against the bare blocked float32 product of the same size.

50,000 images x 512, 1,000 classes x 12 steps (quick: 6,500 x 256, 100 classes). Set OPENBLAS_NUM_THREADS or
OMP_NUM_THREADS to choose the threads. Growth is that of `max` with everything that a study asks for.
"""

from __future__ import annotations

import importlib.util
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from semscale.scoring.kernel import (
    AGGREGATIONS,
    BLOCK,
    LadderInputs,
    LadderScores,
    ScoreOptions,
    score_aggregations,
)
from semscale.scoring.nearest import nearest_categories

from .harness import Row, interleave, ratios, row

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Sizes:
    """Size of a case: `classes` texts are added at each of `steps` steps."""

    images: int
    dim: int
    classes: int
    steps: int


FULL, QUICK = Sizes(50_000, 512, 1_000, 12), Sizes(6_500, 256, 100, 12)
GROWTH, QUICK_GROWTH = Sizes(12_288, 512, 500, 6), Sizes(4_096, 128, 50, 4)


class Case:
    """Random unit images and texts around class centres; more than a tenth of the images is labelled wrong."""

    def __init__(self, sizes: Sizes) -> None:
        rng = np.random.default_rng(7)
        centres = rng.standard_normal((sizes.classes, sizes.dim), dtype=np.float32)
        self.sizes = sizes
        self.true_class = rng.integers(0, sizes.classes, sizes.images).astype(np.int32)
        self.images = centres[self.true_class]
        self.images += 4 * rng.standard_normal(self.images.shape, dtype=np.float32)
        self.texts = np.tile(centres, (sizes.steps, 1))
        self.texts += rng.standard_normal(self.texts.shape, dtype=np.float32)
        for rows in (self.images, self.texts):
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        self.owners = np.tile(np.arange(sizes.classes, dtype=np.int32), sizes.steps)
        self.ends = np.arange(1, sizes.steps + 1) * sizes.classes
        self.inputs = LadderInputs(self.images, self.texts, self.owners, self.ends, self.true_class)

    def bare_product(self) -> None:
        """Multiply every block of images with the texts of every step and keep nothing."""
        classes = self.sizes.classes
        out = np.empty((min(BLOCK, len(self.images)), classes), dtype=np.float32)
        for first in range(0, len(self.images), BLOCK):
            rows = self.images[first : first + BLOCK]
            for start in range(0, len(self.texts), classes):
                np.matmul(rows, self.texts[start : start + classes].T, out=out[: len(rows)])

    def score(self, *aggregations: str, **wanted: bool) -> dict[str, LadderScores]:
        """Run the kernel."""
        return score_aggregations(self.inputs, aggregations, ScoreOptions(**wanted))

    def score_all(self) -> dict[str, LadderScores]:
        """Run the kernel with everything that a study asks for."""
        return self.score("max", confidence=True, ceiling=True)

    def score_on_gpu(self) -> object:
        """Run the same on a GPU."""
        from semscale.scoring.torch_backend import score_on_device

        return score_on_device(self.inputs, ("max",), ScoreOptions(confidence=True, ceiling=True), device="cuda")

    def agreement(self) -> float:
        """Return the share of the first block's predictions that are those of the whole similarity matrix."""
        similarities = self.images[:BLOCK] @ self.texts.T
        plain = np.stack([similarities[:, :end].argmax(axis=1) for end in self.ends.tolist()], axis=1)
        return float((nearest_categories(self.images[:BLOCK], self.texts, self.ends) == plain).mean())


def measure(quick: bool) -> list[Row]:
    """Return time against the bare product, memory, all aggregations against one, and growth."""
    rounds = 1 if quick else 3
    case = Case(QUICK if quick else FULL)
    predictions = partial(nearest_categories, case.images, case.texts, case.ends)
    ways: dict[str, Callable[[], object]] = {
        "bare": case.bare_product,
        "predictions": predictions,
        "max": lambda: case.score("max"),
        "all": lambda: case.score(*AGGREGATIONS),
        "study": case.score_all,
    }
    if has_gpu := _has_gpu():
        ways["gpu"] = case.score_on_gpu
        case.score_on_gpu()  # imports and first allocation
    case.bare_product()  # the first touch of memory
    taken = interleave(ways, rounds)
    rows = [
        row(
            "`max`, predictions, time against the bare product", ratios(taken["predictions"], taken["bare"]), most=1.05
        ),
        row("`max`, predictions, peak memory beyond the inputs, MB", [_peak_megabytes(predictions)], most=300),
        row("`max`, predictions, share equal to those of the similarity matrix", [case.agreement()], least=0.9999),
        row("all five aggregations against `max`", ratios(taken["all"], taken["max"]), most=2.5),
    ]
    if has_gpu:
        rows.append(row("a GPU against the CPU", ratios(taken["gpu"], taken["study"])))
    base = QUICK_GROWTH if quick else GROWTH
    cases = {
        "base": Case(base),
        "images": Case(replace(base, images=2 * base.images)),
        "classes": Case(replace(base, classes=2 * base.classes)),
        "steps": Case(replace(base, steps=2 * base.steps)),
    }
    grown = interleave({name: each.score_all for name, each in cases.items()}, rounds)
    return rows + [
        row(f"time with twice the {name}", ratios(grown[name], grown["base"]), most=2.1)
        for name in ("images", "classes", "steps")
    ]


def _peak_megabytes(work: Callable[[], object]) -> float:
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def _has_gpu() -> bool:
    if not importlib.util.find_spec("torch"):
        return False
    import torch

    return torch.cuda.is_available()
