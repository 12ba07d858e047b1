"""Several aggregations in one pass give what each gives alone, by any number of threads and any strips."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from semscale.scoring import AGGREGATIONS, LadderScores, block, score_aggregations, score_ladder
from semscale.scoring.threads import thread_count

ALL = (*AGGREGATIONS, "top-2-mean", "top-9-mean")
NAMES = ("predicted_category", "predicted_class", "true_rank", "margin", "confidence")


def case(seed: int, per_step: list[list[int]], shuffled: bool) -> dict[str, NDArray[Any]]:
    """Return 300 images; where shuffled, layers need index arrays instead of slices."""
    rng = np.random.default_rng(seed)
    n_classes = len(per_step[0])
    steps = [np.repeat(np.arange(n_classes), counts) for counts in per_step]
    owners = np.concatenate([rng.permutation(step) if shuffled else step for step in steps]).astype(np.int32)
    rows = rng.standard_normal((300 + len(owners), 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return {
        "images": rows[:300],
        "texts": rows[300:],
        "class_index": owners,
        "step_ends": np.cumsum([len(step) for step in steps]),
        "true_class": rng.integers(0, n_classes, 300).astype(np.int32),
    }


CASES = [
    case(1, [[1] * 40] * 6, shuffled=True),
    case(2, [[1, 2, 1, 3], [0, 0, 0, 0], [2, 0, 1, 0], [0, 4, 0, 1]], shuffled=True),
    case(3, [[1] * 9, [2] * 9, [4] * 9], shuffled=False),
]


def assert_same(found: LadderScores, expected: LadderScores) -> None:
    for name in NAMES:
        assert getattr(found, name).tobytes() == getattr(expected, name).tobytes(), name


@pytest.mark.parametrize("number", range(len(CASES)))
@pytest.mark.parametrize("ranks", [True, False])
@pytest.mark.parametrize("confidence", [True, False])
def test_together_as_alone(number: int, ranks: bool, confidence: bool) -> None:
    options: dict[str, Any] = CASES[number] | {"block": 128, "ranks": ranks, "confidence": confidence}
    together = score_aggregations(**options, aggregations=ALL, ceiling=True)
    assert list(together) == list(ALL)
    for aggregation, found in together.items():
        assert_same(found, score_ladder(**options, aggregation=aggregation))


@pytest.mark.parametrize("threads", ["1", "2", "5"])
def test_threads_and_strips_change_no_bit(threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = CASES[0] | {"aggregations": ALL, "confidence": True, "ceiling": True, "block": 32}
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    whole = score_aggregations(**options)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", threads)
    monkeypatch.setattr(block, "_STRIP_BYTES", 1)  # as little as 32 images
    for aggregation, found in score_aggregations(**options).items():
        assert_same(found, whole[aggregation])
        np.testing.assert_array_equal(found.ceiling, whole[aggregation].ceiling)


def test_the_threads_are_those_of_the_product(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert thread_count() >= 1
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert thread_count() == 3
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    assert thread_count() == 2


def test_no_images_and_no_aggregations_are_answered() -> None:
    nothing = CASES[2] | {"images": CASES[2]["images"][:0], "true_class": CASES[2]["true_class"][:0]}
    found = score_aggregations(**nothing, aggregations=("max", "logsumexp"))  # type: ignore[arg-type]
    assert found["max"].predicted_category.shape == (0, 3)
    assert score_aggregations(**CASES[2], aggregations=()) == {}  # type: ignore[arg-type]


def test_memory_beyond_the_inputs_is_as_stated() -> None:
    # numpy tells tracemalloc of its arrays
    import tracemalloc

    rng = np.random.default_rng(4)
    classes, rows = 500, 1024
    owners, ends = np.tile(np.arange(classes, dtype=np.int32), 4), np.arange(1, 5) * classes
    images, texts = (rng.random((count, 16), dtype=np.float32) for count in (4 * rows, 4 * classes))
    true = np.zeros(4 * rows, np.int32)
    for aggregations, kept in ((("max",), 1.0), (("logsumexp",), 2.25), (AGGREGATIONS, 5.25)):
        tracemalloc.start()
        score_aggregations(images, texts, owners, ends, true, aggregations, block=rows)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < thread_count() * (4 * rows * classes * (1 + kept) + 12e6)
