"""Scores from a device against the float32 kernel: the same predictions, ranks and ceiling, however near the ties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from semscale.accelerate import DeviceScores, score_on_device
from semscale.accelerate.doubt import cosine_reach, reach_of
from semscale.accelerate.independence import EqualBits, equal_bits
from semscale.errors import SemscaleError
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


def test_one_class_alone() -> None:
    case = case_of(3, 2 * BLOCK, 1, 3, 16, 1.0, False, 0.0)
    found = assert_same(case)
    assert np.isinf(found.scores["max"].margin).all()


def test_texts_that_repeat_others_of_their_class_make_no_doubt() -> None:
    case = case_of(4, 8 * BLOCK, 10, 1, 64, 1.0, False, 0.0)
    bits = equal_bits(case["images"][:BLOCK], np.tile(case["texts"], (4, 1)), _steps_of(10, 4))
    if not bits.of_columns:
        pytest.skip("equal texts have not equal bits on this machine")
    once = assert_same(case, ("max",)).again
    case |= {"texts": np.tile(case["texts"], (4, 1)), "class_index": np.tile(case["class_index"], 4)}
    case["step_ends"] = np.arange(1, 5) * 10
    assert assert_same(case, ("max",)).again == once < 4 * BLOCK
    # of another class the same text is a tie, which the earlier one wins
    case["class_index"][10:20] = np.roll(case["class_index"][10:20], 1)
    assert assert_same(case, ("max",)).again == 8 * BLOCK


def _steps_of(width: int, steps: int) -> Any:
    return plan_ladder(np.tile(np.arange(width, dtype=np.int32), steps), np.arange(1, steps + 1) * width).steps


def test_where_rows_depend_on_their_place_whole_blocks_are_scored_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semscale.accelerate.ladder.equal_bits", lambda *_: EqualBits(False, False))
    found = assert_same(case_of(5, 5 * BLOCK, 8, 3, 32, 1e-3, True, 0.3))
    assert 0 < found.again < 5 * BLOCK


def test_a_ceiling_that_alone_hinges_on_a_tie() -> None:
    rng = np.random.default_rng(12)
    images = unit(np.ones(64) + 0.1 * rng.standard_normal((8 * BLOCK, 64)))
    far = unit(rng.standard_normal((1, 64)))
    # the best of the true class and the worst of the other one are nearly the same text, the other's best is clear
    texts = np.concatenate([far, -unit(np.ones((1, 64))), far, unit(np.ones((1, 64)))])
    texts[2] += np.float32(6e-8) * np.tile(np.array([1, -1], dtype=np.float32), 32)
    case = {"images": images, "texts": texts, "class_index": np.array([0, 0, 1, 1], np.int32)}
    case |= {"step_ends": np.array([4]), "true_class": np.zeros(len(images), np.int32)}
    found = assert_same(case, ("max",))
    assert found.again == len(images)
    assert 0 < found.scores["max"].ceiling.mean() < 1


def test_ranges_of_blocks_join_to_the_whole() -> None:
    case = case_of(6, 4 * BLOCK + 7, 8, 3, 32, 1e-2, True, 0.1)
    whole = score_aggregations(**case, block=BLOCK)  # type: ignore[arg-type]
    for start, stop in ((0, BLOCK), (BLOCK, 3 * BLOCK), (3 * BLOCK, 4 * BLOCK + 7), (BLOCK, BLOCK)):
        part = score_on_device(**case, device="cpu", block=BLOCK, start=start, stop=stop)  # type: ignore[arg-type]
        for name in AGGREGATIONS:
            np.testing.assert_array_equal(part.scores[name].true_rank, whole[name].true_rank[start:stop])
            assert part.scores[name].confidence.shape == (stop - start, 0)


@given(seed=st.integers(0, 2**32 - 1), dim=st.sampled_from([2, 64, 768]), size=st.sampled_from([1e-3, 1.0, 30.0]))
@settings(max_examples=20, deadline=None)
def test_no_cosine_is_further_off_than_the_bound(seed: int, dim: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    images, texts = (np.float32(size) * unit(rng.standard_normal((40, dim))) for _ in range(2))
    other = torch.mm(torch.tensor(images), torch.tensor(texts).T).numpy().astype(np.float64)
    assert np.abs(images @ texts.T - other).max() <= cosine_reach(dim) * size**2
    exact = images.astype(np.float64) @ texts.T.astype(np.float64)
    assert np.abs(exact - other).max() <= cosine_reach(dim) * size**2 / 2


def test_classes_whose_texts_cancel_are_left_to_the_kernel() -> None:
    case = case_of(7, 2 * BLOCK, 6, 2, 32, 1.0, False, 0.0)
    case["texts"][6:] = -case["texts"][np.argsort(case["class_index"][:6])][case["class_index"][6:]]
    assert assert_same(case, ("mean-embedding",)).again == 2 * BLOCK


def test_the_precision_of_products_is_left_as_it_was() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert_same(case_of(8, 2 * BLOCK, 8, 2, 512, 1.0, False, 0.0))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_what_the_kernel_refuses_is_refused() -> None:
    for name, message in (("images", "images 32 to 63"), ("texts", "in texts")):
        case = case_of(9, 100, 5, 2, 16, 1.0, False, 0.0)
        case[name][min(40, len(case[name]) - 1), 0] = np.nan
        with pytest.raises(ValueError, match=message):
            score_on_device(**case, device="cpu", block=BLOCK)  # type: ignore[arg-type]
    case = case_of(9, 100, 5, 2, 16, 1.0, False, 0.0)
    with pytest.raises(SemscaleError, match="unknown aggregation"):
        score_on_device(**case, aggregations=("min",), device="cpu", block=BLOCK)  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_said() -> None:
    with pytest.raises(SemscaleError, match="no GPU"):
        score_on_device(**case_of(10, 100, 5, 2, 16, 1.0, False, 0.0), device="cuda", block=BLOCK)  # type: ignore[arg-type]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_gives_the_same_scores() -> None:
    for apart in (0.0, 1e-6, 1e-3, 1.0):
        assert_same(case_of(11, 20 * 2048 + 5, 100, 4, 512, apart, True, 0.2), block=2048, device="cuda")
