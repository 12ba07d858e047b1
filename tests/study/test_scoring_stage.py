"""Scoring tasks read embeddings without a copy and use one thread."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import ray
from numpy.typing import NDArray
from threadpoolctl import threadpool_info

from semscale.scoring import LadderInputs, ScoreOptions, join_scores, score_aggregations
from semscale.scoring.kernel import BLOCK, block_ranges, thread_count
from semscale.study.scoring_stage import _score_remotely, _SharedInputs

pytestmark = pytest.mark.usefixtures("ray_session")


@ray.remote
def _look_at(array: NDArray[Any]) -> dict[str, Any]:
    np.ones((200, 200)) @ np.ones((200, 200))
    blas = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    return {"owned": array.flags.owndata, "writable": array.flags.writeable, "strips": thread_count(), "blas": blas}


def test_a_task_sees_the_embeddings_without_a_copy_and_uses_one_thread() -> None:
    seen = ray.get(_look_at.remote(ray.put(np.ones((1000, 512), np.float32))))
    assert seen["owned"] is False
    assert seen["writable"] is False
    assert seen["strips"] == 1
    assert set(seen["blas"]) == {1}


def test_tasks_over_ranges_join_to_the_scores_of_one_pass() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((2 * BLOCK + 50 + 60, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    images, texts = rows[:-60], rows[-60:]
    owners, ends = np.tile(np.arange(20, dtype=np.int32), 3), np.array([20, 40, 60])
    true = rng.integers(0, 20, len(images)).astype(np.int32)
    options = ScoreOptions(confidence=True, ceiling=True)
    held = ray.put(images), ray.put(texts), _SharedInputs(owners, ends, true, ("max",), options)
    tasks = [_score_remotely.remote(*held, start, stop, None) for start, stop in block_ranges(len(images), 3)]
    joined = join_scores([part.scores["max"] for part in ray.get(tasks)])
    inputs = LadderInputs(images, texts, owners, ends, true)
    whole = score_aggregations(inputs, ("max",), options)["max"]
    for name in ("predicted_category", "predicted_class", "true_rank", "margin", "confidence", "ceiling"):
        assert getattr(joined, name).tobytes() == getattr(whole, name).tobytes(), name
