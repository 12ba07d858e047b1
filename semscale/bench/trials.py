"""What one more trial costs: Tune, evaluation, and an MLflow run with its artifacts and plot.

    python -m semscale.bench.trials            # 24 and 324 trials, three rounds
    python -m semscale.bench.trials --quick    # 6 and 18 trials, one round

Every round records a small and a large study into a fresh sqlite store each, through the sweep's own trials with a
real Ray; the difference of the two times over the difference of their sizes is the cost of a trial, and what is left
of the small study's time is the start. Embeddings are drawn at random around the classes: no server is needed.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from semscale.bench.alone import run_alone
from semscale.categories.ladder import Ladder, build_ladders
from semscale.scoring.kernel import score_aggregations
from semscale.study.cluster import ray_cluster
from semscale.study.score import ScoredLadder
from semscale.study.trials import TrialContext, run_trials
from semscale.tracking.inputs import DatasetUsed
from semscale.tracking.records import start_curve_run, start_study_run
from semscale.tracking.store import open_store

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIMENSION = 64
NOISE = 0.45  # of an embedding's coordinates: about nine of ten images are labelled right


def draw_ladders(images: int, steps: int, orders: int) -> list[ScoredLadder]:
    """Score the ladders of one curve in several orders on embeddings drawn around the classes; Ray must run."""
    rng = np.random.default_rng(7)
    centres = _unit(rng.normal(size=(len(CLASSES), DIMENSION)))
    true_class = np.arange(images, dtype=np.int32) % len(CLASSES)
    pictures = _unit(centres[true_class] + NOISE * rng.normal(size=(images, DIMENSION)))
    reference = ray.put(pictures)
    ladders: Sequence[Ladder] = build_ladders(
        "drawn", CLASSES, "digit", "templates", steps=steps, orders=tuple(range(orders))
    )
    drawn = []
    for ladder in ladders:
        flat = ladder.flatten()
        noise = np.stack([np.random.default_rng(_seed(text)).normal(size=DIMENSION) for text in flat.texts])
        texts = _unit(centres[flat.class_index] + NOISE / 3 * noise)
        drawn.append(
            ScoredLadder(
                dataset=ladder.dataset,
                model="drawn",
                strategy=ladder.strategy,
                order=ladder.order,
                aggregation="max",
                ladder=ladder,
                flat=flat,
                files=[f"{number}.png" for number in range(images)],
                true_class=true_class,
                scores=score_aggregations(
                    pictures,
                    texts,
                    flat.class_index,
                    flat.step_ends,
                    true_class,
                    ("max",),
                    confidence=True,
                    ceiling=True,
                )["max"],
                images=reference,
                texts=ray.put(texts),
            )
        )
    return drawn


def record(ladders: Sequence[ScoredLadder], folder: Path) -> float:
    """Record these ladders' trials into a fresh store and return the seconds that it took."""
    store = open_store(None, "semscale", folder)
    client = store.client()
    study = start_study_run(client, store, "bench", "bench")
    first = ladders[0]
    dataset = DatasetUsed("drawn", "drawn", "bundled", "drawn", len(first.files), len(CLASSES))
    run = start_curve_run(client, store, "bench/curve", study, first.columns, "drawn / templates", dataset)
    start = time.perf_counter()
    context = TrialContext(
        curve_runs={first.curve: (run.info.run_id, "bench/curve", "drawn / templates")},
        tracking=store,
        study_name="bench",
        datasets={(first.dataset, first.model): dataset},
    )
    table = run_trials(ladders, context, folder, lambda done, total: None, print)
    seconds = time.perf_counter() - start
    assert table["mlflow_run_id"].nunique() == sum(len(ladder.flat.scales) for ladder in ladders)
    return seconds


def measure(quick: bool = False, rounds: int | None = None) -> dict[str, Any]:
    """Return the seconds of both sizes in every round, and from them milliseconds per trial and of the start."""
    images, steps, few, many = (60, 3, 2, 6) if quick else (896, 12, 2, 27)
    sizes = (few * steps, many * steps)
    taken: dict[int, list[float]] = {size: [] for size in sizes}
    with tempfile.TemporaryDirectory() as folder, ray_cluster(None):
        ladders = draw_ladders(images, steps, many)
        for number in range(rounds or (1 if quick else 3)):
            for size, count in zip(sizes, (few, many), strict=True):
                place = Path(folder) / f"{number}-{size}"
                place.mkdir()
                taken[size].append(record(ladders[:count], place))
    small, large = sizes
    per_trial = [1000 * (b - a) / (large - small) for a, b in zip(taken[small], taken[large], strict=True)]
    starts = [a - each * small / 1000 for a, each in zip(taken[small], per_trial, strict=True)]
    return {
        "images": images,
        "sizes": list(sizes),
        "rounds": len(per_trial),
        "cores": os.cpu_count(),
        "seconds": {str(size): seconds for size, seconds in taken.items()},
        "ms_per_trial": statistics.median(per_trial),
        "ms_per_trial_low": min(per_trial),
        "ms_per_trial_high": max(per_trial),
        "start_seconds": statistics.median(starts),
    }


def markdown(result: dict[str, Any]) -> str:
    """Return the result as a table of one row."""
    small, large = result["sizes"]
    return "\n".join(
        [
            "| trials | rounds | cores | ms per trial | range | start, s |",
            "|---|---|---|---|---|---|",
            f"| {small} and {large} | {result['rounds']} | {result['cores']} | {result['ms_per_trial']:.0f} "
            f"| {result['ms_per_trial_low']:.0f} to {result['ms_per_trial_high']:.0f} "
            f"| {result['start_seconds']:.1f} |",
        ]
    )


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark, print Markdown and one line of JSON."""
    return run_alone(__doc__, "6 and 18 trials, one round", measure, markdown, arguments)


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def _seed(text: str) -> int:
    return int.from_bytes(text.encode(), "big") % 2**32


if __name__ == "__main__":
    main()
