"""Screened predictions against the float32 kernel: the same bits, however near the ties."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from semscale.accelerate import bfloat16_is_fast, predict_screened, screening_bound
from semscale.accelerate.bound import kernel_bound, norms
from semscale.accelerate.resolve import ExactRows, rows_are_independent
from semscale.accelerate.screen import Screen
from semscale.errors import SemscaleError
from semscale.scoring import LadderScores, score_ladder
from semscale.scoring.plan import plan_ladder

Case = dict[str, NDArray[Any]]
BLOCK = 32


def unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6), dtype=np.float32)


def near_ties(seed: int, n: int, classes: int, steps: int, dim: int, apart: float) -> Case:
    """Return texts that are all about `apart` from a few centres, and images near the middle between two centres."""
    rng = np.random.default_rng(seed)
    centres = unit(rng.standard_normal((max(2, classes // 2), dim)))
    class_index = np.concatenate([rng.permutation(classes) for _ in range(steps)]).astype(np.int32)
    texts = centres[rng.integers(0, len(centres), len(class_index))]
    first, second = centres[rng.integers(0, len(centres), (2, n))]
    return {
        "images": unit(first + second + apart * rng.standard_normal((n, dim))),
        "texts": unit(texts + apart * rng.standard_normal(texts.shape) / np.sqrt(dim)),
        "class_index": class_index,
        "step_ends": np.arange(1, steps + 1) * classes,
    }


def kernel(case: Case, block: int = BLOCK) -> LadderScores:
    true_class = np.zeros(len(case["images"]), np.int32)
    return score_ladder(**case, true_class=true_class, block=block, ranks=False)  # type: ignore[arg-type]


def assert_same(case: Case, block: int = BLOCK) -> None:
    found = predict_screened(**case, block=block, always=True)  # type: ignore[arg-type]
    expected = kernel(case, block)
    np.testing.assert_array_equal(found.scores.predicted_category, expected.predicted_category)
    np.testing.assert_array_equal(found.scores.predicted_class, expected.predicted_class)
    assert found.scores.true_rank.shape == expected.true_rank.shape
    assert found.screened == len(case["images"]) // block * block


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 3 * BLOCK),
    classes=st.integers(1, 40),
    steps=st.integers(1, 5),
    dim=st.sampled_from([1, 3, 17, 64, 512]),
    apart=st.sampled_from([0.0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1.0]),
)
@settings(max_examples=150, deadline=None)
def test_the_nearest_of_near_ties_is_the_kernels(
    seed: int, n: int, classes: int, steps: int, dim: int, apart: float
) -> None:
    assert_same(near_ties(seed, n, classes, steps, dim, apart))


@pytest.mark.parametrize("apart", [0.0, 1e-7, 3e-5, 1.0])
def test_blocks_of_the_usual_size_and_steps_of_other_widths(apart: float) -> None:
    case = near_ties(3, 2 * 2048 + 100, 60, 6, 256, apart)
    case["step_ends"] = np.array([60, 60, 200, 360])
    assert_same(case, block=2048)


def test_signs_and_sizes_that_are_no_cosines() -> None:
    case = near_ties(4, 2 * BLOCK, 20, 3, 64, 0.1)
    case["images"] = -case["images"] * np.float32(7)
    assert_same(case)
    case["texts"] = np.zeros_like(case["texts"])
    assert_same(case)


@given(
    seed=st.integers(0, 2**32 - 1),
    dim=st.sampled_from([1, 8, 100, 512, 768]),
    # just past the middle between two bfloat16 numbers: every entry is rounded by almost a unit, all to one side
    worst=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_no_screened_cosine_is_further_off_than_the_bound(seed: int, dim: int, worst: bool) -> None:
    rng = np.random.default_rng(seed)
    if worst:
        rows = np.full((40, dim), 1 + 2.0**-8 + 2.0**-16, dtype=np.float32) * rng.choice([1, 2, 4], (40, 1))
        rows = (rows / np.exp2(np.ceil(np.log2(np.linalg.norm(rows, axis=1, keepdims=True))))).astype(np.float32)
    else:
        rows = unit(rng.standard_normal((40, dim)))
    images, texts = rows[:20], rows[20:]
    near, rounded = (torch.tensor(each).bfloat16().float().numpy() for each in (images, texts))
    t_norm = max(norms(texts).max(), norms(rounded).max())
    bound = screening_bound(images, near, float(t_norm), float(norms(texts - rounded).max()))
    own = (images @ texts.T).astype(np.float64)
    screened = torch.mm(torch.tensor(near).bfloat16(), torch.tensor(rounded).bfloat16().T).double().numpy()
    exact = images.astype(np.float64) @ texts.T.astype(np.float64)
    # the screened cosine as it comes out is rounded once more, by at most a unit roundoff
    assert (np.abs(screened - own) <= bound[:, None] + 2.0**-8 * (np.abs(own) + bound[:, None]) * 1.01).all()
    assert (np.abs(exact - own) <= kernel_bound(norms(images), float(t_norm), dim)[:, None]).all()
    if worst:
        # the worst case reaches a good part of the bound, so it cannot be made much smaller
        assert np.abs(near.astype(np.float64) @ rounded.T.astype(np.float64) - exact).max() > 0.9 * bound.min() / 2


def test_screening_leaves_few_texts() -> None:
    case = near_ties(5, 256, 100, 4, 512, 1.0)
    plan = plan_ladder(case["class_index"], case["step_ends"])
    found = Screen(case["texts"], plan.steps, "cpu").candidates(case["images"])
    assert 256 <= len(found.row) < 0.1 * 256 * 400


def test_where_rows_depend_on_the_shape_the_block_is_multiplied() -> None:
    case = near_ties(6, 100, 9, 1, 64, 1e-6)
    steps = plan_ladder(case["class_index"], case["step_ends"]).steps
    rows = np.array([3, 99])
    whole = ExactRows(case["images"], case["texts"], [False]).of(0, steps[0], rows)
    np.testing.assert_array_equal(whole, np.matmul(case["images"], case["texts"].T)[rows])
    if all(rows_are_independent(case["images"], case["texts"], steps)):
        np.testing.assert_array_equal(ExactRows(case["images"], case["texts"], [True]).of(0, steps[0], rows), whole)


def test_it_goes_on_with_what_is_faster_and_says_so() -> None:
    case = near_ties(7, 5 * BLOCK + 3, 10, 3, 64, 1e-3)
    found = predict_screened(**case, block=BLOCK)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.scores.predicted_category, kernel(case).predicted_category)
    if bfloat16_is_fast():
        assert found.screened in (BLOCK, 4 * BLOCK)
        assert "times the kernel's time" in found.why
    else:
        assert found.screened == 0


def test_flags_of_the_processor_decide(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    assert not bfloat16_is_fast(file)
    for flags, fast in (("avx2 avx512f", False), ("avx512f avx512_bf16", False), ("amx_tile amx_bf16", True)):
        file.write_text(f"model name : a CPU\nflags\t\t: {flags} sha_ni\n")
        assert bfloat16_is_fast(file) is fast


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_said() -> None:
    with pytest.raises(SemscaleError, match="no GPU"):
        predict_screened(**near_ties(8, 200, 5, 2, 16, 1.0), device="cuda", block=BLOCK)  # type: ignore[arg-type]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_gives_the_same_predictions() -> None:
    for apart in (0.0, 1e-6, 1e-3, 1.0):
        case = near_ties(9, 4 * 2048, 100, 4, 512, apart)
        found = predict_screened(**case, device="cuda", always=True)  # type: ignore[arg-type]
        np.testing.assert_array_equal(found.scores.predicted_category, kernel(case, 2048).predicted_category)


def test_embeddings_that_are_not_finite_are_refused() -> None:
    for name, message in (("images", "images 32 to 63"), ("texts", "in texts")):
        case = near_ties(10, 100, 5, 2, 16, 1.0)
        case[name] = case[name].copy()
        case[name][min(40, len(case[name]) - 1), 0] = np.nan
        with pytest.raises(ValueError, match=message):
            predict_screened(**case, block=BLOCK, always=True)  # type: ignore[arg-type]
