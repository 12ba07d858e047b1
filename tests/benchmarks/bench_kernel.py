"""Time of the fused ladder kernel as a multiple of the bare blocked float32 product of the same size.

    python tests/benchmarks/bench_kernel.py            # 50,000 images x 512, 1,000 classes x 12 steps
    python tests/benchmarks/bench_kernel.py --quick    # 4,096 images x 256, 100 classes x 12 steps

Both run in turn in the same process, so the ratios hold on busy machines too; the spread over the rounds is
given. Set OPENBLAS_NUM_THREADS (or OMP_NUM_THREADS) to choose the threads of the product.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semscale.scoring.kernel import AGGREGATIONS, BLOCK, score_ladder

Float32 = NDArray[np.float32]


def make_case(n: int, dim: int, classes: int, steps: int) -> tuple[Float32, Float32, NDArray[np.int32]]:
    """Return unit images, unit texts (step by step) and true classes; about a quarter is labelled wrong."""
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
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    blas: Any = np.show_config(mode="dicts")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": blas["Build Dependencies"]["blas"].get("name", "unknown"),
        "threads": os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or "default",
    }


def seconds(work: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_megabytes(work: Callable[[], object]) -> float:
    """Return the most memory that the call holds beyond what was there before, results included."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def measure(n: int, dim: int, classes: int, steps: int, block: int, rounds: int) -> dict[str, Any]:
    """Return sizes, machine, agreement with plain predictions, and a row per way of using the kernel."""
    images, texts, true_class = make_case(n, dim, classes, steps)
    class_index = np.tile(np.arange(classes, dtype=np.int32), steps)
    ends = np.arange(1, steps + 1) * classes

    def kernel(aggregation: str, ranks: bool) -> Callable[[], object]:
        return lambda: score_ladder(images, texts, class_index, ends, true_class, aggregation, block=block, ranks=ranks)

    ways = {
        f"{aggregation}, {outputs}": kernel(aggregation, outputs != "predictions")
        for aggregation in AGGREGATIONS
        for outputs in ("predictions", "predictions, ranks, margins")
    }
    taken: dict[str, list[float]] = {way: [] for way in ways}
    bare: list[float] = []
    seconds(lambda: bare_product(images, texts, classes, block))  # the first touch of memory is nobody's time
    for _ in range(rounds):
        bare.append(seconds(lambda: bare_product(images, texts, classes, block)))
        for way, work in ways.items():
            taken[way].append(seconds(work))
    part = slice(0, min(n, block))
    scores = score_ladder(images[part], texts, class_index, ends, true_class[part], block=block)
    same = scores.predicted_category == plain_predictions(images[part], texts, ends)
    return {
        "sizes": {
            "images": n,
            "dim": dim,
            "classes": classes,
            "steps": steps,
            "block": block,
            "rounds": rounds,
        },
        "machine": machine(),
        "agreement": float(same.mean()),
        "accuracy": float((scores.predicted_class == true_class[part, None]).mean()),
        "bare_seconds": statistics.median(bare),
        "gflops": 2e-9 * n * dim * len(texts) / statistics.median(bare),
        "rows": [_row(way, taken[way], bare, ways[way]) for way in ways],
    }


def _row(way: str, taken: list[float], bare: list[float], work: Callable[[], object]) -> dict[str, Any]:
    ratios = [mine / base for mine, base in zip(taken, bare, strict=True)]
    return {
        "way": way,
        "seconds": statistics.median(taken),
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "peak_mb": peak_megabytes(work),
    }


def markdown(result: dict[str, Any]) -> str:
    """Return the result as text for a README."""
    sizes, facts = result["sizes"], result["machine"]
    lines = [
        f"{sizes['images']:,} images x {sizes['dim']}, {sizes['classes']:,} classes x {sizes['steps']} steps, "
        f"blocks of {sizes['block']:,}, {sizes['rounds']} rounds; {facts['cpu']}, {facts['cores']} cores, "
        f"product threads: {facts['threads']}, numpy {facts['numpy']} ({facts['blas']})",
        "",
        "| way | seconds | x bare product (lowest to highest) | peak memory beyond inputs, MB |",
        "|---|---|---|---|",
        f"| bare blocked product | {result['bare_seconds']:.3f} | 1 ({result['gflops']:.0f} GFLOP/s) | |",
    ]
    for row in result["rows"]:
        spread = f"{row['ratio']:.3f} ({row['ratio_low']:.3f} to {row['ratio_high']:.3f})"
        lines.append(f"| {row['way']} | {row['seconds']:.3f} | {spread} | {row['peak_mb']:.0f} |")
    lines += [
        "",
        f"Predictions equal to those of the plain similarity matrix: {100 * result['agreement']:.3f} %.",
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print Markdown and JSON, and return the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--classes", type=int, default=1_000)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--block", type=int, default=BLOCK)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="4,096 images x 256, 100 classes")
    given = parser.parse_args(arguments)
    if given.quick:
        given.images, given.dim, given.classes = 4_096, 256, 100
    result = measure(given.images, given.dim, given.classes, given.steps, given.block, given.rounds)
    print(markdown(result))
    print(json.dumps(result))
    return result


if __name__ == "__main__":
    main()
