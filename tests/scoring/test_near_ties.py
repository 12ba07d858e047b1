"""Near and exact ties: float64 decides, for every block size, number of threads and device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kernel_reference import Case, unit
from numpy.typing import NDArray

from semscale.common.errors import SemscaleError
from semscale.scoring import (
    AGGREGATIONS,
    LadderInputs,
    LadderScores,
    ScoreOptions,
    nearest_categories,
    score_aggregations,
)
from semscale.scoring.aggregations import cosine_bound, make_aggregation
from semscale.scoring.decisions import exact_cosines
from semscale.scoring.plan import plan_ladder
from semscale.scoring.torch_backend import DeviceScores, find_device, score_on_device

ALL = (*AGGREGATIONS, "top-2-mean")
DECIDED = ("predicted_category", "predicted_class", "true_rank", "ceiling")


def ladder(rng: np.random.Generator, classes: int, steps: int, ragged: bool) -> dict[str, NDArray[Any]]:
    """Return classes and step ends; a ragged ladder adds some, one or no text to a class, and none at step 1."""
    added = [rng.permutation(classes)]
    for step in range(1, steps):
        many = rng.integers(0, 3, classes) if ragged else np.ones(classes, dtype=int)
        added.append(rng.permutation(np.repeat(np.arange(classes), 0 if ragged and step == 1 else many)))
    return {
        "class_index": np.concatenate(added).astype(np.int32),
        "step_ends": np.cumsum([len(each) for each in added]),
    }


def case_of(seed: int, n: int, classes: int, steps: int, dim: int, apart: float) -> Case:
    """Return images near the middle between two centres, texts about `apart` from centres, a fifth of them repeated."""
    rng = np.random.default_rng(seed)
    centres = unit(rng.standard_normal((max(2, classes // 2), dim)))
    arrays = ladder(rng, classes, steps, ragged=True)
    owners = arrays["class_index"]
    texts = centres[rng.integers(0, len(centres), len(owners))]
    texts = unit(texts + apart * rng.standard_normal(texts.shape) / np.sqrt(dim))
    for index in np.flatnonzero(rng.random(len(owners)) < 0.2):
        texts[index] = texts[np.flatnonzero(owners == owners[index])[0]]
    first, second = centres[rng.integers(0, len(centres), (2, n))]
    images = unit(first + second + apart * rng.standard_normal((n, dim)))
    return arrays | {"images": images, "texts": texts, "true_class": rng.integers(0, classes, n).astype(np.int32)}


def grid_case(seed: int, n: int, classes: int, steps: int, dim: int) -> Case:
    """Return rows of multiples of 2^-14: dot products are exact in float64 in any order, and inexact in float32.

    Texts are a few centres, half of them with two coordinates moved by a step of the grid in opposite directions. Since
    the coordinates of an image are nearly equal, that moves a dot product by as little as float32 rounds.
    """
    rng = np.random.default_rng(seed)
    arrays = ladder(rng, classes, steps, ragged=True)
    owners = arrays["class_index"]
    centres = np.round(16384 * unit(np.abs(rng.standard_normal((4, dim)))))
    texts = centres[rng.integers(0, 4, len(owners))]
    for text in np.flatnonzero(rng.random(len(owners)) < 0.5):
        texts[text, rng.choice(dim, 2, replace=False)] += (1, -1)
    images = np.round(16384 / np.sqrt(dim)) + rng.integers(-3, 4, (n, dim))
    rows = {"images": (images / 16384).astype(np.float32), "texts": (texts / 16384).astype(np.float32)}
    return arrays | rows | {"true_class": rng.integers(0, classes, n).astype(np.int32)}


def class_score(name: str, cosines: NDArray[Any], texts: NDArray[Any]) -> float:
    """Return a class score in float64 from the cosines of its categories, the largest summed first."""
    ordered = np.sort(cosines)[::-1].tolist()
    if name == "mean-embedding":
        return sum(ordered) / float(np.sqrt((texts.sum(axis=0) ** 2).sum()))
    if name == "logsumexp":
        return ordered[0] + float(np.log(sum(np.exp(100 * (np.array(ordered) - ordered[0])).tolist()))) / 100
    kept = ordered[: {"max": 1, "mean-similarity": len(ordered)}.get(name) or int(name.split("-")[1])]
    return sum(kept) / len(kept)


def plain_reference(case: Case) -> dict[str, dict[str, NDArray[Any]]]:
    """Return the expected decisions, image by image in float64."""
    images, texts, owners = case["images"].astype(float), case["texts"].astype(float), case["class_index"]
    classes, shape = int(owners.max()) + 1, (len(images), len(case["step_ends"]))
    expected = {name: {part: np.empty(shape, int) for part in DECIDED} for name in ALL}
    for k, end in enumerate(case["step_ends"].tolist()):
        members = [np.flatnonzero(owners[:end] == c) for c in range(classes)]
        for i, true in enumerate(case["true_class"].tolist()):
            cosines = texts[:end] @ images[i]
            best, worst = (np.array([pick(cosines[each]) for each in members]) for pick in (np.max, np.min))
            for name in ALL:
                scores = np.array([class_score(name, cosines[each], texts[each]) for each in members])
                predicted = owners[cosines.argmax()] if name == "max" else scores.argmax()
                own_members = members[predicted]
                order = sorted(range(classes), key=lambda c: (c != predicted, -scores[c], c))
                row = (
                    own_members[cosines[own_members].argmax()],
                    predicted,
                    order.index(true),
                    best[true] > np.delete(worst, true).max(),
                )
                for part, value in zip(DECIDED, row, strict=True):
                    expected[name][part][i, k] = value
    return expected


@pytest.fixture(autouse=True)
def _one_thread_in_torch() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def everywhere(case: Case, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, slice, dict[str, LadderScores]]]:
    """Yield the scores of every block size, number of threads and backend, small blocks of the first images only."""
    inputs, n = LadderInputs(**case), len(case["images"])
    for block, stop in ((512, n), (4096, n), (7, 35), (1, 35)):
        options = ScoreOptions(block=block, confidence=True, ceiling=True)
        for threads in ("1", "2"):
            monkeypatch.setenv("OPENBLAS_NUM_THREADS", threads)
            found = score_aggregations(inputs, ALL, options, stop=stop)
            yield f"blocks of {block}, {threads} threads", slice(stop), found
        found = score_on_device(inputs, ALL, options, device="cpu", stop=stop).scores
        yield f"torch, blocks of {block}", slice(stop), found


def test_ties_are_decided_as_the_plain_float64_rule_says(monkeypatch: pytest.MonkeyPatch) -> None:
    case = grid_case(0, 520, 8, 4, 96)
    expected = plain_reference(case)
    similarities = case["images"] @ case["texts"].T
    wrong = similarities.argmax(axis=1) != expected["max"]["predicted_category"][:, -1]
    assert wrong.any(), "the case must hold ties that float32 decides otherwise"
    for where, images, scores in everywhere(case, monkeypatch):
        for name, columns in expected.items():
            for part, column in columns.items():
                np.testing.assert_array_equal(getattr(scores[name], part), column[images], f"{where}, {name}, {part}")
    for block in (1, 7, 512, 4096):
        nearest = nearest_categories(case["images"], case["texts"], case["step_ends"], block)
        np.testing.assert_array_equal(nearest, expected["max"]["predicted_category"])


@pytest.mark.parametrize(("apart", "dim"), [(0.0, 64), (1e-8, 512), (1e-6, 17), (1e-4, 64), (1.0, 3)])
def test_block_sizes_threads_and_backends_agree(monkeypatch: pytest.MonkeyPatch, apart: float, dim: int) -> None:
    case = case_of(1, 520, 12, 4, dim, apart)
    results = everywhere(case, monkeypatch)
    _, _, first = next(results)
    for where, images, scores in results:
        assert_close(scores, {name: part_of(each, images) for name, each in first.items()}, case, where)


def part_of(scores: LadderScores, images: slice) -> LadderScores:
    return LadderScores(*(column[images] for column in vars(scores).values()))


def assert_close(scores: dict[str, LadderScores], first: dict[str, LadderScores], case: Case, where: str) -> None:
    """Assert that decisions are equal, and margins and confidences within their error bounds."""
    plan = plan_ladder(case["class_index"], case["step_ends"])
    for name, expected in first.items():
        for part in DECIDED:
            np.testing.assert_array_equal(
                getattr(scores[name], part), getattr(expected, part), f"{where}, {name}, {part}"
            )
        scorer = make_aggregation(name, plan, case["texts"], 100.0)
        bound = np.array([scorer.error_bound(step, 1.01) for step in plan.step_of.tolist()])
        with np.errstate(invalid="ignore"):  # of one class alone the margin is infinite
            off = np.nan_to_num(np.abs(scores[name].margin.astype(float) - expected.margin), nan=0.0)
        assert (off <= 4 * bound).all(), name
        ratio = np.abs(np.log(scores[name].confidence / expected.confidence))
        assert (ratio <= 100 * 4 * bound + 1e-5).all(), name


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 90),
    classes=st.integers(1, 40),
    steps=st.integers(1, 5),
    dim=st.sampled_from([1, 3, 17, 64, 512]),
    apart=st.sampled_from([0.0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1.0]),
)
@example(seed=353410629, n=9, classes=3, steps=4, dim=3, apart=1e-5)  # a difference of just the bound
@settings(max_examples=50, deadline=None)
def test_torch_decides_as_numpy_does(seed: int, n: int, classes: int, steps: int, dim: int, apart: float) -> None:
    case = case_of(seed, n, classes, steps, dim, apart)
    found = assert_device_agrees(case, "cpu", block=32)
    nearest = nearest_categories(case["images"], case["texts"], case["step_ends"], block=32)
    np.testing.assert_array_equal(nearest, found.scores["max"].predicted_category)


def assert_device_agrees(case: Case, device: str, block: int) -> DeviceScores:
    inputs, options = LadderInputs(**case), ScoreOptions(block=block, confidence=True, ceiling=True)
    found = score_on_device(inputs, ALL, options, device=device)
    assert_close(found.scores, score_aggregations(inputs, ALL, options), case, device)
    return found


def test_ordinary_images_are_rarely_rescored() -> None:
    found = assert_device_agrees(case_of(2, 1500, 30, 4, 256, 3.0), "cpu", block=2048)
    assert 0 < found.rescored < 750


def test_equal_categories_of_two_classes_go_to_the_earlier() -> None:
    case = case_of(4, 200, 10, 1, 64, 1.0)
    case["texts"] = np.concatenate([case["texts"], case["texts"]])
    case["class_index"] = np.concatenate([case["class_index"], np.roll(case["class_index"], 1)])
    case["step_ends"] = np.array([10, 20])
    found = assert_device_agrees(case, "cpu", block=64)
    assert found.rescored == 200
    category = found.scores["max"].predicted_category
    assert (category < 10).all()
    np.testing.assert_array_equal(category[:, 1], category[:, 0])


def test_a_ceiling_that_alone_depends_on_a_near_tie() -> None:
    rng = np.random.default_rng(12)
    images = unit(np.ones(64) + 0.1 * rng.standard_normal((256, 64)))
    far = unit(rng.standard_normal((1, 64)))
    # the best of the true class and the worst of the other one are nearly the same text, the other's best is clear
    texts = np.concatenate([far, -unit(np.ones((1, 64))), far, unit(np.ones((1, 64)))])
    texts[2] += np.float32(6e-8) * np.tile(np.array([1, -1], dtype=np.float32), 32)
    owners, true = np.array([0, 0, 1, 1], np.int32), np.zeros(256, np.int32)
    case = {"images": images, "texts": texts, "class_index": owners, "step_ends": np.array([4]), "true_class": true}
    found = assert_device_agrees(case, "cpu", block=32)
    assert found.rescored == 256
    cosines = images.astype(float) @ texts.T.astype(float)
    expected = cosines[:, :2].max(axis=1) > cosines[:, 2:].min(axis=1)
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(found.scores["max"].ceiling[:, 0], expected)


def test_classes_whose_texts_cancel() -> None:
    case = case_of(7, 64, 6, 1, 32, 1.0)
    case["texts"] = np.concatenate([case["texts"], -case["texts"]])
    case["texts"][9] = case["texts"][8]
    case["class_index"], case["step_ends"] = np.tile(case["class_index"], 2), np.array([6, 12])
    assert assert_device_agrees(case, "cpu", block=32).rescored


def test_ranges_of_blocks_join_to_the_whole_on_a_device() -> None:
    inputs, options = LadderInputs(**case_of(6, 135, 8, 3, 32, 1e-2)), ScoreOptions(block=32)
    whole = score_aggregations(inputs, options=options)
    for start, stop in ((0, 32), (32, 96), (96, 135), (32, 32)):
        part = score_on_device(inputs, options=options, device="cpu", start=start, stop=stop).scores
        for name in AGGREGATIONS:
            np.testing.assert_array_equal(part[name].true_rank, whole[name].true_rank[start:stop])
            assert part[name].confidence.shape == (stop - start, 0)


@given(seed=st.integers(0, 2**32 - 1), dim=st.sampled_from([2, 64, 768]), size=st.sampled_from([1e-3, 1.0, 30.0]))
@settings(max_examples=20, deadline=None)
def test_errors_of_float32_cosines_are_within_the_bound(seed: int, dim: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    images, texts = (np.float32(size) * unit(rng.standard_normal((40, dim))) for _ in range(2))
    rows, columns = np.divmod(np.arange(1600), 40)
    exact = exact_cosines(images, texts, rows, columns).reshape(40, 40)
    np.testing.assert_allclose(exact, images.astype(float) @ texts.T.astype(float), rtol=0, atol=1e-14 * size**2)
    for product in (images @ texts.T, torch.mm(torch.tensor(images), torch.tensor(texts).T).numpy()):
        assert np.abs(product - exact).max() <= cosine_bound(dim, 1.01 * size**2)


def test_a_dot_product_has_the_same_bits_wherever_its_rows_are() -> None:
    rng = np.random.default_rng(5)
    images, texts = (unit(rng.standard_normal((50, 333))) for _ in range(2))
    rows, columns = rng.integers(0, 50, (2, 3000))
    together = exact_cosines(images, texts, rows, columns)
    alone = [exact_cosines(images, texts, rows[i : i + 1], columns[i : i + 1])[0] for i in range(0, 3000, 37)]
    np.testing.assert_array_equal(together[::37], alone)


def test_the_precision_of_products_is_restored() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert_device_agrees(case_of(8, 64, 8, 2, 512, 1.0), "cpu", block=32)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_device_refuses_the_same_inputs_as_the_kernel() -> None:
    for name, message in (("images", "images 32 to 63"), ("texts", "in texts")):
        case = case_of(9, 100, 5, 2, 16, 1.0)
        case[name][min(40, len(case[name]) - 1), 0] = np.nan
        with pytest.raises(ValueError, match=message):
            score_on_device(LadderInputs(**case), options=ScoreOptions(block=32), device="cpu")
    with pytest.raises(SemscaleError, match="unknown aggregation"):
        score_on_device(LadderInputs(**case_of(9, 100, 5, 2, 16, 1.0)), ("min",), device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_an_error() -> None:
    with pytest.raises(SemscaleError, match="no GPU"):
        find_device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_gives_the_same_scores() -> None:
    for apart in (0.0, 1e-6, 1e-3, 1.0):
        assert_device_agrees(case_of(11, 20 * 2048 + 5, 100, 4, 512, apart), "cuda", block=2048)
