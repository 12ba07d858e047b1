"""The fused kernel against the reference implementation."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_reference import Case, reference_scores, score, unit
from numpy.typing import NDArray

from semscale.common.errors import SemscaleError
from semscale.scoring import (
    AGGREGATIONS,
    LadderInputs,
    LadderScores,
    ScoreOptions,
    block_ranges,
    join_scores,
    score_aggregations,
    score_ladder,
    tiles,
)
from semscale.scoring.kernel import thread_count


def random_case(seed: int, n: int, per_step: list[list[int]], dim: int = 24) -> Case:
    """Return random embeddings; `per_step[k][c]` texts are added to class c at step k, classes one after the other."""
    rng = np.random.default_rng(seed)
    n_classes = len(per_step[0])
    class_index = np.concatenate([np.repeat(np.arange(n_classes), counts) for counts in per_step]).astype(np.int32)
    centres = rng.standard_normal((n_classes, dim))
    true_class = rng.integers(0, n_classes, n).astype(np.int32)
    return {
        "images": unit(centres[true_class] + 1.5 * rng.standard_normal((n, dim))),
        "texts": unit(centres[class_index] + rng.standard_normal((len(class_index), dim))),
        "class_index": class_index,
        "step_ends": np.cumsum([sum(counts) for counts in per_step]),
        "true_class": true_class,
    }


def assert_same(found: LadderScores, expected: LadderScores, *, exact: bool = False) -> None:
    np.testing.assert_array_equal(found.predicted_category, expected.predicted_category)
    np.testing.assert_array_equal(found.predicted_class, expected.predicted_class)
    np.testing.assert_array_equal(found.true_rank, expected.true_rank)
    np.testing.assert_allclose(found.margin, expected.margin, rtol=0, atol=0 if exact else 1e-6)


EVEN = [[1] * 7] * 5
UNEVEN = [[1, 2, 1, 3], [0, 0, 0, 0], [2, 0, 1, 0], [1, 1, 1, 1], [0, 4, 0, 1]]
EXPONENTIAL = [[1] * 5, [1] * 5, [2] * 5, [4] * 5]


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("per_step", [EVEN, UNEVEN, EXPONENTIAL, [[1, 1]]], ids=["even", "uneven", "exp", "one step"])
def test_the_kernel_agrees_with_the_reference(aggregation: str, per_step: list[list[int]]) -> None:
    case = random_case(1, 203, per_step)
    found = score(case, aggregation=aggregation, block=64)
    expected = reference_scores(**case, aggregation=aggregation)
    assert_same(found, expected)
    assert 0.05 < (found.true_rank > 0).mean() < 0.95, "the case must hold right and wrong predictions"
    assert found.predicted_category.dtype == found.predicted_class.dtype == found.true_rank.dtype == np.int32
    assert found.margin.dtype == np.float32


@st.composite
def tied_cases(draw: st.DrawFn) -> Case:
    """Draw small integers, so that products are exact in any sequence and equal scores are common."""
    n_classes = draw(st.integers(2, 5))
    first = draw(st.lists(st.integers(1, 2), min_size=n_classes, max_size=n_classes))
    later = draw(st.lists(st.lists(st.integers(0, 3), min_size=n_classes, max_size=n_classes), max_size=4))
    steps = [np.repeat(np.arange(n_classes), counts) for counts in (first, *later)]
    class_index = np.concatenate(
        [np.array(draw(st.permutations(step.tolist())), dtype=np.int32) for step in steps]
    ).astype(np.int32)
    n, dim = draw(st.integers(1, 9)), draw(st.integers(1, 3))

    def numbers(rows: int) -> NDArray[np.float32]:
        flat = draw(st.lists(st.integers(-2, 2), min_size=rows * dim, max_size=rows * dim))
        return np.array(flat, dtype=np.float32).reshape(rows, dim)

    return {
        "images": numbers(n),
        "texts": numbers(len(class_index)),
        "class_index": class_index,
        "step_ends": np.cumsum([len(step) for step in steps]),
        "true_class": np.array(draw(st.lists(st.integers(0, n_classes - 1), min_size=n, max_size=n)), dtype=np.int32),
    }


@given(case=tied_cases(), block=st.integers(1, 5))
@settings(max_examples=300, deadline=None)
def test_ties_go_to_the_earlier_category_in_any_ladder(case: Case, block: int) -> None:
    found = score(case, block=block)
    assert_same(found, reference_scores(**case), exact=True)
    np.testing.assert_array_equal(found.true_rank == 0, found.predicted_class == case["true_class"][:, None])


@given(case=tied_cases(), block=st.integers(1, 5), aggregation=st.sampled_from([*AGGREGATIONS[1:], "top-2-mean"]))
@settings(max_examples=400, deadline=None)
def test_class_scores_are_exact_and_agree_with_the_predictions_under_ties(
    case: Case, block: int, aggregation: str
) -> None:
    found = score(case, aggregation, block=block, confidence=True, logit_scale=3.0)
    np.testing.assert_array_equal(found.true_rank == 0, found.predicted_class == case["true_class"][:, None])
    np.testing.assert_array_equal(case["class_index"][found.predicted_category], found.predicted_class)
    assert (found.predicted_category < case["step_ends"]).all()
    expected = reference_scores(**case, aggregation=aggregation, logit_scale=3.0)
    np.testing.assert_allclose(found.margin, expected.margin, rtol=0, atol=1e-5)
    # of two equal scores rounding may prefer either, but never by more than this
    np.testing.assert_allclose(found.confidence, expected.confidence, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rule", ["mean-similarity", "top-2-mean", "top-4-mean"])
@given(case=tied_cases())
@settings(max_examples=60, deadline=None)
def test_of_equal_scores_the_earlier_class_wins(rule: str, case: Case) -> None:
    # halves, quarters and eighths are exact in both precisions, thirds are not
    counts = [np.bincount(case["class_index"][:end]) for end in case["step_ends"].tolist()]
    most = 10**9 if rule == "mean-similarity" else int(rule.split("-")[1])
    if not set(np.minimum(np.concatenate(counts), most).tolist()) <= {1, 2, 4, 8}:
        return
    found = score(case, aggregation=rule)
    assert_same(found, reference_scores(**case, aggregation=rule), exact=True)


@pytest.mark.parametrize("aggregation", [*AGGREGATIONS, "top-1-mean", "top-50-mean"])
@pytest.mark.parametrize("logit_scale", [1.0, 100.0, 4000.0])
def test_confidence_is_the_softmax_of_the_predicted_class(aggregation: str, logit_scale: float) -> None:
    case = random_case(11, 120, UNEVEN)
    options: dict[str, Any] = {"aggregation": aggregation, "logit_scale": logit_scale}
    found = score(case, **options, confidence=True, block=50)
    expected = reference_scores(**case, **options)
    np.testing.assert_array_equal(found.predicted_category, expected.predicted_category)
    # a cosine is good to about 1e-7, and the logit scale multiplies that before the exponential
    np.testing.assert_allclose(found.confidence, expected.confidence, rtol=3e-6 + 3e-7 * logit_scale)
    assert found.confidence.dtype == np.float32
    assert found.confidence.max() <= 1


@pytest.mark.parametrize("cosine", [-1.0, 0.0, 1.0])
def test_logsumexp_neither_overflows_nor_vanishes(cosine: float) -> None:
    images = np.ones((1, 1), np.float32)
    texts = np.array([cosine, cosine - 1e-3, cosine, cosine], np.float32)[:, None]
    owners, ends = np.array([0, 1, 0, 0], np.int32), np.array([2, 4])
    case = {
        "images": images,
        "texts": texts,
        "class_index": owners,
        "step_ends": ends,
        "true_class": np.zeros(1, np.int32),
    }
    scores = score(case, "logsumexp", logit_scale=1000.0)
    np.testing.assert_allclose(scores.margin, [[1e-3, 1e-3 + np.log(3) / 1000]], atol=2e-7)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_steps_that_add_no_text_change_nothing(aggregation: str) -> None:
    case = random_case(12, 150, [[1] * 6, [0] * 6, [0] * 6])  # the control `duplicates`
    scores = score(case, aggregation=aggregation, confidence=True)
    for name in ("predicted_category", "predicted_class", "true_rank", "margin", "confidence"):
        column = getattr(scores, name)
        assert column[:, 1].tobytes() == column[:, 0].tobytes() == column[:, 2].tobytes()


def test_there_is_no_confidence_unless_requested() -> None:
    scores = score(random_case(13, 9, EVEN))
    assert scores.confidence.shape == (9, 0)
    assert join_scores([scores, scores]).confidence.shape == (18, 0)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_logit_scale_that_is_not_positive_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="positive logit scale"):
        score(random_case(14, 3, [[1, 1]]), logit_scale=scale)


@pytest.mark.parametrize("name", ["top-0-mean", "top-mean", "top-1000-mean", "mean", "logsumexp "])
def test_similar_names_of_aggregations_are_refused(name: str) -> None:
    with pytest.raises(SemscaleError, match="unknown aggregation"):
        score(random_case(15, 3, [[1, 1]]), aggregation=name)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("parts", [1, 2, 3, 50])
def test_ranges_of_whole_blocks_join_to_the_same_bits(aggregation: str, parts: int) -> None:
    case = random_case(2, 8 * 16 + 5, UNEVEN, dim=64)
    whole = score(case, aggregation=aggregation, block=16, confidence=True)
    options = ScoreOptions(block=16, confidence=True)
    pieces = [
        score_aggregations(LadderInputs(**case), (aggregation,), options, start=start, stop=stop)[aggregation]
        for start, stop in block_ranges(len(case["images"]), parts, block=16)
    ]
    joined = join_scores(pieces)
    assert_same(joined, whole, exact=True)
    np.testing.assert_array_equal(joined.confidence, whole.confidence)


@pytest.mark.parametrize("n", [1, 15, 16, 17])
def test_numbers_of_images_around_a_block(n: int) -> None:
    case = random_case(3, n, EVEN)
    assert_same(score(case, block=16), reference_scores(**case))


def test_repeated_texts_change_nothing_under_max() -> None:
    case = random_case(5, 200, [[1] * 6] * 3)
    case["texts"][6:12] = case["texts"][:6]
    case["texts"][12:] = case["texts"][:6]
    scores = score(case)
    for k in (1, 2):
        np.testing.assert_array_equal(scores.predicted_category[:, k], scores.predicted_category[:, 0])
        np.testing.assert_array_equal(scores.true_rank[:, k], scores.true_rank[:, 0])


def test_more_than_255_layers_keep_their_winners() -> None:
    case = random_case(6, 40, [[1, 1], [300, 2]])
    found = score(case, aggregation="mean-embedding")
    assert_same(found, reference_scores(**case, aggregation="mean-embedding"))
    assert found.predicted_category.max() > 255


def test_inputs_are_not_modified() -> None:
    case = random_case(7, 50, UNEVEN)
    for array in case.values():
        array.flags.writeable = False  # as arrays from a shared object store are
    for aggregation in AGGREGATIONS:
        score(case, aggregation=aggregation)


def test_ranges_cover_all_images_and_cut_between_blocks() -> None:
    for n, parts in ((1, 1), (10, 3), (4096, 7), (4097, 2)):
        ranges = block_ranges(n, parts, block=4)
        assert ranges[0][0] == 0
        assert ranges[-1][1] == n
        assert all(a[1] == b[0] and a[1] % 4 == 0 for a, b in pairwise(ranges))
        assert len(ranges) <= parts


def test_an_unknown_aggregation_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SemscaleError, match="unknown aggregation") as caught:
        score(random_case(8, 3, [[1, 1]]), aggregation="median")
    assert "mean-embedding" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("images", np.zeros((3, 24)), "float32"),
        ("images", np.zeros((3, 5), np.float32), "one embedding size"),
        ("images", np.full((3, 24), np.nan, np.float32), "images 0 to 2"),
        ("texts", np.full((2, 24), np.inf, np.float32), "in texts"),
        ("texts", np.zeros((3, 24), np.float32), "expected 2 texts"),
        ("true_class", np.array([0, 1], np.int32), "true class for each"),
        ("true_class", np.array([0, 1, 2], np.int32), "from 0 to 1"),
        ("class_index", np.array([0, 2], np.int32), "first step"),
        ("step_ends", np.array([1, 2]), "first step"),
        ("step_ends", np.array([2, 3]), "rise to 2"),
        ("step_ends", np.array([], np.int64), "vectors"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name: str, value: NDArray[Any], message: str) -> None:
    case = random_case(9, 3, [[1, 1]])
    case[name] = value
    with pytest.raises(ValueError, match=message):
        score(case)


def test_a_range_through_a_block_is_refused() -> None:
    case = random_case(10, 20, [[1, 1]])
    for start, stop in ((3, 20), (0, 9), (8, 4), (0, 24)):
        with pytest.raises(ValueError, match="whole blocks"):
            score_aggregations(LadderInputs(**case), options=ScoreOptions(block=8), start=start, stop=stop)


ALL = (*AGGREGATIONS, "top-2-mean", "top-9-mean")


def shuffled_case(per_step: list[list[int]]) -> Case:
    """Return a case in which layers need index arrays instead of slices."""
    case, start = random_case(16, 300, per_step, dim=32), 0
    for stop in case["step_ends"].tolist():
        case["class_index"][start:stop] = np.random.default_rng(stop).permutation(case["class_index"][start:stop])
        start = stop
    return case


def assert_same_bits(found: LadderScores, expected: LadderScores) -> None:
    for name, column in vars(expected).items():
        assert getattr(found, name).tobytes() == column.tobytes(), name


@pytest.mark.parametrize("per_step", [[[1] * 40] * 6, UNEVEN, EXPONENTIAL], ids=["even", "uneven", "exp"])
@pytest.mark.parametrize("confidence", [True, False])
def test_aggregations_together_equal_each_alone(per_step: list[list[int]], confidence: bool) -> None:
    inputs, options = LadderInputs(**shuffled_case(per_step)), ScoreOptions(block=128, confidence=confidence)
    together = score_aggregations(inputs, ALL, options)
    assert list(together) == list(ALL)
    for aggregation, found in together.items():
        assert_same_bits(found, score_ladder(inputs, aggregation, options))


@pytest.mark.parametrize("threads", ["1", "2", "5"])
def test_threads_and_tiles_change_no_bit(threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ScoreOptions(confidence=True, ceiling=True, block=32)
    inputs = LadderInputs(**shuffled_case([[1] * 40] * 6))
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    whole = score_aggregations(inputs, ALL, options)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", threads)
    monkeypatch.setattr(tiles, "_TILE_BYTES", 1)  # as little as 32 images
    for aggregation, found in score_aggregations(inputs, ALL, options).items():
        assert_same_bits(found, whole[aggregation])


def test_the_threads_are_those_of_the_product(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert thread_count() >= 1
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert thread_count() == 3
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    assert thread_count() == 2


def test_no_images_and_no_aggregations_have_empty_scores() -> None:
    case = random_case(1, 9, EXPONENTIAL)
    nothing = LadderInputs(**case | {"images": case["images"][:0], "true_class": case["true_class"][:0]})
    found = score_aggregations(nothing, ("max", "logsumexp"), ScoreOptions(ceiling=True))
    assert found["max"].predicted_category.shape == found["logsumexp"].ceiling.shape == (0, 4)
    assert score_aggregations(LadderInputs(**case), ()) == {}


def test_memory_besides_the_inputs_is_as_documented() -> None:
    rng = np.random.default_rng(4)
    classes, rows = 500, 1024
    owners, ends = np.tile(np.arange(classes, dtype=np.int32), 4), np.arange(1, 5) * classes
    images, texts = (rng.random((count, 16), dtype=np.float32) for count in (4 * rows, 4 * classes))
    true = np.zeros(4 * rows, np.int32)
    for aggregations, kept in ((("max",), 1.0), (("logsumexp",), 2.0), (AGGREGATIONS, 5.0)):
        tracemalloc.start()
        score_aggregations(LadderInputs(images, texts, owners, ends, true), aggregations, ScoreOptions(block=rows))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < thread_count() * (4 * rows * classes * (1 + kept) + 12e6)
