"""Correctness patterns, and the bootstrap of a curve against the errors that theory gives."""

from __future__ import annotations

import numpy as np
import pytest

from semscale.analysis.answer_patterns import count_patterns
from semscale.analysis.bootstrap import resample, resample_pair


def predictions(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape[-2])[:, None] + 0.5 * rng.standard_normal(shape) < 0.6


@pytest.mark.parametrize("steps", [2, 9])  # few distinct rows and many are drawn in different ways
def test_replicates_have_the_covariance_of_the_mean_of_whole_rows(steps: int) -> None:
    correct = predictions((400, steps))
    curves = resample(count_patterns(correct), 20_000)
    assert curves.mean(axis=0) == pytest.approx(correct.mean(axis=0), abs=5e-4)
    expected = np.cov(correct, rowvar=False, bias=True) / 400
    assert np.cov(curves, rowvar=False) == pytest.approx(expected, rel=0.06, abs=2e-5)


def test_same_seed_same_numbers_and_duplicates_do_not_move() -> None:
    patterns = count_patterns(np.repeat(predictions((100, 1)), 3, axis=1))
    curves = resample(patterns, 50, seed=3)
    assert (curves == resample(patterns, 50, seed=3)).all()
    assert (curves != resample(patterns, 50, seed=4)).any()
    assert (curves == curves[:, :1]).all()


def test_replicates_in_several_blocks_have_the_same_spread() -> None:
    patterns = count_patterns(np.random.default_rng(0).random((3000, 40)) < 0.5)  # several blocks
    curves = resample(patterns, 2000)
    assert curves.std(axis=0) == pytest.approx(np.full(40, 0.5 / np.sqrt(3000)), rel=0.1)


def test_orders_add_their_spread() -> None:
    # orders differ a lot, images not at all: all the spread is that of the mean of 4 orders
    correct = np.zeros((4, 1000, 2), dtype=bool)
    for order, right in enumerate([500, 600, 700, 800]):
        correct[order, :right, 1] = True
    orders = resample(count_patterns(correct), 20_000)
    assert (orders[:, 0] == 0).all()
    images = resample(count_patterns(correct[0]), 20_000)
    between = np.array([0.5, 0.6, 0.7, 0.8]).var() / 4
    assert orders[:, 1].var() == pytest.approx(between + images[:, 1].var(), rel=0.1)


def test_two_arms_share_their_images() -> None:
    correct = predictions((2, 300, 3))
    first, second = resample_pair(correct, correct[:1], 200)
    assert first.shape == second.shape == (200, 3)
    first, second = resample_pair(correct[0], correct[0], 200)
    assert (first == second).all()
    with pytest.raises(ValueError, match="same images"):
        resample_pair(correct, correct[:, 1:])


def test_one_replicate_is_refused() -> None:
    with pytest.raises(ValueError, match="two replicates"):
        resample(count_patterns(predictions((10, 2))), 1)


@pytest.mark.parametrize("shape", [(300, 3), (300, 12), (2, 300, 5), (4, 200, 16), (3, 50, 30), (1, 1)])
def test_patterns_are_the_unique_rows_with_their_counts(shape: tuple[int, ...]) -> None:
    correct = np.random.default_rng(1).random(shape) < 0.8
    patterns = count_patterns(correct)
    rows = correct[None] if correct.ndim == 2 else correct
    flat = rows.transpose(1, 0, 2).reshape(rows.shape[1], -1)
    expected, counts = np.unique(flat, axis=0, return_counts=True)
    assert patterns.rows.reshape(len(counts), -1).tolist() == expected.tolist()
    assert patterns.counts.tolist() == counts.tolist()
    assert (patterns.n_orders, patterns.n_images, patterns.n_steps) == rows.shape
    assert patterns.correct_counts().tolist() == rows.sum(axis=1).tolist()
    assert patterns.accuracy() == pytest.approx(rows.mean(axis=(0, 1)), abs=1e-15)


@pytest.mark.parametrize("shape", [(5,), (0, 3), (3, 0), (0, 3, 3), (1, 1, 1, 1)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected correct"):
        count_patterns(np.zeros(shape, dtype=bool))
