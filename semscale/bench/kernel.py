"""Time of the fused ladder kernel as a multiple of the bare blocked float32 product of the same size.

    python -m semscale.bench.kernel            # 50,000 images x 512, 1,000 classes x 12 steps
    python -m semscale.bench.kernel --quick    # 6,500 images x 256, 100 classes x 12 steps

All ways of a round run in turn in the same process, so the ratios hold on busy machines too; the spread over the
rounds is given. A way is compared with the product, and with `max` alone, of its own round. The growth is that of
`max` with everything the sweep asks for, on a smaller case and on the same with twice the images, classes or steps.
Set OPENBLAS_NUM_THREADS (or OMP_NUM_THREADS) to choose the threads. On a machine that others use, take
OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 and --cpu, which counts the time of the processor instead of the clock on the
wall.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semscale.accelerate import DeviceScores, bfloat16_is_fast, predict_screened, score_on_device
from semscale.bench.machine import cpu_model
from semscale.scoring.kernel import AGGREGATIONS, BLOCK, LadderScores, score_aggregations
from semscale.scoring.threads import thread_count

Float32 = NDArray[np.float32]
SCREENED = "max, predictions, screened in bfloat16"
EVERYTHING = "max, predictions, ranks, margins, confidences, ceiling"
ON_GPU = f"{EVERYTHING}, on a GPU"
TOGETHER = "all five, predictions, ranks, margins"


@dataclass(frozen=True)
class Sizes:
    """How large a case is: `classes` texts are added at each of `steps` steps."""

    images: int
    dim: int
    classes: int
    steps: int


FULL, QUICK = Sizes(50_000, 512, 1_000, 12), Sizes(6_500, 256, 100, 12)
GROWTH, QUICK_GROWTH = Sizes(12_288, 512, 500, 6), Sizes(4_096, 128, 50, 4)


def make_case(n: int, dim: int, classes: int, steps: int) -> tuple[Float32, Float32, NDArray[np.int32]]:
    """Return unit images, unit texts (step by step) and true classes; more than a tenth is labelled wrong."""
    rng = np.random.default_rng(7)
    centres = rng.standard_normal((classes, dim), dtype=np.float32)
    true_class = rng.integers(0, classes, n).astype(np.int32)
    images = centres[true_class]
    images += 4 * rng.standard_normal((n, dim), dtype=np.float32)
    texts = np.tile(centres, (steps, 1))
    texts += rng.standard_normal(texts.shape, dtype=np.float32)
    for rows in (images, texts):
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return images, texts, true_class


def bare_product(images: Float32, texts: Float32, classes: int, block: int) -> None:
    """Multiply every block of images with the texts of every step and keep nothing."""
    out = np.empty((min(block, len(images)), classes), dtype=np.float32)
    for first in range(0, len(images), block):
        rows = images[first : first + block]
        for start in range(0, len(texts), classes):
            np.matmul(rows, texts[start : start + classes].T, out=out[: len(rows)])


def plain_predictions(images: Float32, texts: Float32, ends: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the nearest text at every step from the whole similarity matrix."""
    similarities = images @ texts.T
    return np.stack([similarities[:, :end].argmax(axis=1) for end in ends.tolist()], axis=1)


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    blas: Any = np.show_config(mode="dicts")
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": blas["Build Dependencies"]["blas"].get("name", "unknown"),
        "threads": thread_count(),
    }


def seconds(work: Callable[[], object], cpu: bool) -> float:
    """Return how long one call takes, on the wall or on the processor."""
    clock = time.process_time if cpu else time.perf_counter
    start = clock()
    work()
    return clock() - start


def peak_megabytes(work: Callable[[], object]) -> float:
    """Return the most memory that the call holds beyond what was there before, results included."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


class Case:
    """A case of some size, and what can be asked of it."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self.images, self.texts, self.true_class = make_case(sizes.images, sizes.dim, sizes.classes, sizes.steps)
        self.owners = np.tile(np.arange(sizes.classes, dtype=np.int32), sizes.steps)
        self.ends = np.arange(1, sizes.steps + 1) * sizes.classes

    def bare(self) -> None:
        """Multiply, and nothing else."""
        bare_product(self.images, self.texts, self.sizes.classes, BLOCK)

    def score(self, *aggregations: str, **wanted: bool) -> dict[str, LadderScores]:
        """Run the kernel."""
        return score_aggregations(
            self.images, self.texts, self.owners, self.ends, self.true_class, aggregations, **wanted
        )

    def screened(self) -> NDArray[np.int32]:
        """Return the predictions of the screened way, with its own way of finding out whether it pays left out."""
        found = predict_screened(self.images, self.texts, self.owners, self.ends, always=True)
        return found.scores.predicted_category

    def ways(self) -> dict[str, Callable[[], object]]:
        """Return the ways of using the kernel, by name."""
        ways: dict[str, Callable[[], object]] = {"max, predictions": lambda: self.score("max", ranks=False)}
        if importlib.util.find_spec("torch") and bfloat16_is_fast():
            ways[SCREENED] = self.screened
        for name in AGGREGATIONS:
            ways[f"{name}, predictions, ranks, margins"] = partial(self.score, name)
        ways[TOGETHER] = lambda: self.score(*AGGREGATIONS)
        ways[EVERYTHING] = self.everything
        if _sees_a_gpu():
            ways[ON_GPU] = partial(self.on_device, "cuda")
        return ways

    def on_device(self, device: str) -> DeviceScores:
        """Ask a device what the sweep asks, near ties scored again included."""
        case = (self.images, self.texts, self.owners, self.ends, self.true_class)
        return score_on_device(*case, ("max",), device=device, confidence=True, ceiling=True)

    def everything(self) -> dict[str, LadderScores]:
        """Ask what the sweep asks."""
        return self.score("max", confidence=True, ceiling=True)


def measure(quick: bool, rounds: int = 3, images: int | None = None, cpu: bool = False) -> dict[str, Any]:
    """Return sizes, machine, agreement with plain predictions, a row per way of using the kernel, and the growth.

    Args:
        quick: the smaller case.
        rounds: how often everything is measured.
        images: another number of images.
        cpu: count processor time, which only says something with one thread.
    """
    sizes = QUICK if quick else FULL
    case = Case(sizes if images is None else replace(sizes, images=images))
    ways = case.ways()
    taken: dict[str, list[float]] = {way: [] for way in ways}
    bare: list[float] = []
    case.bare()  # the first touch of memory is nobody's time, nor is the import of torch
    if SCREENED in ways:
        Case(replace(sizes, images=BLOCK)).screened()
    if ON_GPU in ways:
        Case(replace(sizes, images=BLOCK)).on_device("cuda")
    for _ in range(rounds):
        bare.append(seconds(case.bare, cpu))
        for way, work in ways.items():
            taken[way].append(seconds(work, cpu))
    part = slice(0, BLOCK)
    scores = case.score("max")["max"]
    same = scores.predicted_category[part] == plain_predictions(case.images[part], case.texts, case.ends)
    screened = None if SCREENED not in ways else float((case.screened() == scores.predicted_category).mean())
    return {
        "sizes": vars(case.sizes) | {"block": BLOCK, "rounds": rounds, "clock": "processor" if cpu else "wall"},
        "machine": machine(),
        "agreement": float(same.mean()),
        "screened_agreement": screened,
        "accuracy": float((scores.predicted_class == case.true_class[:, None]).mean()),
        "bare_seconds": statistics.median(bare),
        "gflops": 2e-9 * case.sizes.images * case.sizes.dim * len(case.texts) / statistics.median(bare),
        "rows": [_row(way, taken[way], bare, ways[way]) for way in ways],
        "screened": None if SCREENED not in ways else _ratio(taken[SCREENED], taken["max, predictions"]),
        "on_gpu": None
        if ON_GPU not in ways
        else _ratio(taken[ON_GPU], taken[EVERYTHING]) | device_agreement(case, "cuda"),
        "together": _ratio(taken[TOGETHER], taken["max, predictions, ranks, margins"]),
        "growth": growth(QUICK_GROWTH if quick else GROWTH, rounds, cpu),
    }


def _sees_a_gpu() -> bool:
    if not importlib.util.find_spec("torch"):
        return False
    import torch

    return torch.cuda.is_available()


def device_agreement(case: Case, device: str) -> dict[str, float]:
    """Return the share of predictions and ranks that are the kernel's, and of images that it scored again."""
    found, expected = case.on_device(device), case.everything()["max"]
    mine = found.scores["max"]
    same = (mine.predicted_category == expected.predicted_category) & (mine.true_rank == expected.true_rank)
    return {"agreement": float(same.mean()), "again": found.again / max(1, found.on_device)}


def growth(base: Sizes, rounds: int, cpu: bool) -> list[dict[str, Any]]:
    """Return time and memory of twice the images, classes and steps as multiples of the base's."""
    cases = {
        "base": Case(base),
        "images x 2": Case(replace(base, images=2 * base.images)),
        "classes x 2": Case(replace(base, classes=2 * base.classes)),
        "steps x 2": Case(replace(base, steps=2 * base.steps)),
    }
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            taken[name].append(seconds(case.everything, cpu))
    return [
        {"case": name, "peak_mb": peak_megabytes(case.everything)} | _ratio(taken[name], taken["base"])
        for name, case in cases.items()
    ]


def _ratio(taken: list[float], base: list[float]) -> dict[str, float]:
    ratios = [mine / other for mine, other in zip(taken, base, strict=True)]
    return {"ratio": statistics.median(ratios), "ratio_low": min(ratios), "ratio_high": max(ratios)}


def _row(way: str, taken: list[float], bare: list[float], work: Callable[[], object]) -> dict[str, Any]:
    # tracemalloc sees numpy's memory, not torch's
    peak = None if way in (SCREENED, ON_GPU) else peak_megabytes(work)
    return {"way": way, "seconds": statistics.median(taken), "peak_mb": peak} | _ratio(taken, bare)


def _spread(found: dict[str, Any]) -> str:
    return f"{found['ratio']:.3f} ({found['ratio_low']:.3f} to {found['ratio_high']:.3f})"


def markdown(result: dict[str, Any]) -> str:
    """Return the result as text for a README."""
    sizes, facts = result["sizes"], result["machine"]
    lines = [
        f"{sizes['images']:,} images x {sizes['dim']}, {sizes['classes']:,} classes x {sizes['steps']} steps, "
        f"blocks of {sizes['block']:,}, {sizes['rounds']} rounds; {facts['cpu']}, {facts['cores']} cores, "
        f"{facts['threads']} threads, {sizes['clock']} time, numpy {facts['numpy']} ({facts['blas']})",
        "",
        "| way | seconds | x bare product (lowest to highest) | peak memory beyond inputs, MB |",
        "|---|---|---|---|",
        f"| bare blocked product | {result['bare_seconds']:.3f} | 1 ({result['gflops']:.0f} GFLOP/s) | |",
    ]
    for row in result["rows"]:
        peak = "not measured" if row["peak_mb"] is None else f"{row['peak_mb']:.0f}"
        lines.append(f"| {row['way']} | {row['seconds']:.3f} | {_spread(row)} | {peak} |")
    lines += [
        "",
        f"All five aggregations together: {_spread(result['together'])} times `max` alone.",
        f"Predictions equal to those of the plain similarity matrix: {100 * result['agreement']:.3f} %.",
    ]
    if result["screened_agreement"] is not None:
        lines += [
            f"Screening in bfloat16: {_spread(result['screened'])} times `max` with predictions in float32.",
            f"Screened predictions equal to the kernel's: {100 * result['screened_agreement']:.3f} %.",
        ]
    if gpu := result["on_gpu"]:
        lines += [
            f"On a GPU: {_spread(gpu)} times the same on the CPU, with {100 * gpu['again']:.1f} % of the images scored "
            f"again; predictions and ranks equal to the kernel's: {100 * gpu['agreement']:.3f} %.",
        ]
    lines += ["", "| growth | x time (lowest to highest) | peak memory beyond inputs, MB |", "|---|---|---|"]
    lines += [f"| {row['case']} | {_spread(row)} | {row['peak_mb']:.0f} |" for row in result["growth"]]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print Markdown and JSON, and return the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="6,500 images x 256, 100 classes")
    parser.add_argument("--images", type=int, help="another number of images")
    parser.add_argument("--cpu", action="store_true", help="count processor time, with one thread")
    given = parser.parse_args(arguments)
    result = measure(given.quick, given.rounds, given.images, given.cpu)
    print(markdown(result))
    print(json.dumps(result))
    return result


if __name__ == "__main__":
    main()
