"""Scores from a device against the float32 kernel: the same predictions, ranks and ceiling, however near the ties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from semscale.accelerate import DeviceScores, score_on_device
from semscale.accelerate.doubt import reach_of
from semscale.scoring import AGGREGATIONS, score_aggregations
from semscale.scoring.aggregations import rule_of
from semscale.scoring.plan import plan_ladder

Case = dict[str, NDArray[Any]]
BLOCK = 32
ALL = (*AGGREGATIONS, "top-2-mean")
EXACT = ("predicted_category", "predicted_class", "true_rank", "ceiling")


def unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6), dtype=np.float32)


def case_of(seed: int, n: int, classes: int, steps: int, dim: int, apart: float, ragged: bool, repeated: float) -> Case:
    """Return images near the middle between two centres, texts about `apart` from centres, some of them repeated.

    A ragged ladder adds to a class some, one or no text at a step, and nothing at all at its second step.
    """
    rng = np.random.default_rng(seed)
    centres = unit(rng.standard_normal((max(2, classes // 2), dim)))
    added = [rng.permutation(classes)]
    for step in range(1, steps):
        many = rng.integers(0, 3, classes) if ragged else np.ones(classes, dtype=int)
        added.append(rng.permutation(np.repeat(np.arange(classes), 0 if ragged and step == 1 else many)))
    owners = np.concatenate(added).astype(np.int32)
    texts = centres[rng.integers(0, len(centres), len(owners))]
    texts = unit(texts + apart * rng.standard_normal(texts.shape) / np.sqrt(dim))
    for index in np.flatnonzero(rng.random(len(owners)) < repeated):
        texts[index] = texts[np.flatnonzero(owners == owners[index])[0]]
    first, second = centres[rng.integers(0, len(centres), (2, n))]
    return {
        "images": unit(first + second + apart * rng.standard_normal((n, dim))),
        "texts": texts,
        "class_index": owners,
        "step_ends": np.cumsum([len(each) for each in added]),
        "true_class": rng.integers(0, classes, n).astype(np.int32),
    }


def assert_same(
    case: Case, aggregations: tuple[str, ...] = ALL, block: int = BLOCK, scale: float = 100.0, device: str = "cpu"
) -> DeviceScores:
    wanted: dict[str, Any] = {"block": block, "confidence": True, "ceiling": True, "logit_scale": scale}
    found = score_on_device(**case, aggregations=aggregations, device=device, **wanted)  # type: ignore[arg-type]
    expected = score_aggregations(**case, aggregations=aggregations, **wanted)  # type: ignore[arg-type]
    assert list(found.scores) == list(aggregations)
    dim = case["images"].shape[1]
    plan = plan_ladder(case["class_index"], case["step_ends"])
    for name, mine in expected.items():
        for part in EXACT:
            np.testing.assert_array_equal(getattr(found.scores[name], part), getattr(mine, part), f"{name}, {part}")
        rule = None if name == "max" else rule_of(name, plan, case["texts"], scale)
        reach = reach_of(rule, plan, dim)
        bound = (reach.per_norm + reach.fixed).max(axis=1)
        with np.errstate(invalid="ignore"):  # of one class alone the margin is infinite
            off = np.abs(found.scores[name].margin.astype(np.float64) - mine.margin)
        assert (np.nan_to_num(off, nan=0.0) <= 2.01 * bound + 1e-6).all(), name
        ratio = np.abs(np.log(found.scores[name].confidence / mine.confidence))
        assert (ratio <= scale * 2 * bound + 1e-5).all(), name
    assert found.on_device == len(case["images"]) // block * block
    return found


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 3 * BLOCK),
    classes=st.integers(1, 40),
    steps=st.integers(1, 5),
    dim=st.sampled_from([1, 3, 17, 64, 512]),
    apart=st.sampled_from([0.0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1.0]),
    ragged=st.booleans(),
    repeated=st.sampled_from([0.0, 0.3, 1.0]),
    scale=st.sampled_from([1.0, 100.0, 1000.0]),
)
@settings(max_examples=80, deadline=None)
def test_what_hinges_on_near_ties_is_the_kernels(
    seed: int, n: int, classes: int, steps: int, dim: int, apart: float, ragged: bool, repeated: float, scale: float
) -> None:
    assert_same(case_of(seed, n, classes, steps, dim, apart, ragged, repeated), scale=scale)


@pytest.mark.parametrize("name", ALL)
def test_each_aggregation_alone(name: str) -> None:
    for apart in (1e-6, 1.0):
        assert_same(case_of(1, 3 * BLOCK, 12, 4, 64, apart, True, 0.2), (name,))


def test_blocks_of_the_usual_size() -> None:
    found = assert_same(case_of(2, 2 * 2048 + 100, 60, 4, 256, 1.0, True, 0.1), block=2048)
    assert 0 < found.again < found.on_device / 2
