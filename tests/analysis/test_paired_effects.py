"""Paired effects against the enumeration of all resamples."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import norm

from semscale.analysis import change_interval
from semscale.analysis.answer_patterns import count_patterns
from semscale.analysis.bootstrap import resample
from semscale.analysis.paired_effects import paired_effects, resample_sources, with_sources

RNG = np.random.default_rng(3)


def test_replicates_are_draws_of_images_orders_and_seeds() -> None:
    first, second = RNG.random((2, 2, 3, 2)) < 0.5, RNG.random((2, 2, 3, 1)) < 0.5
    draws = product(*(product(range(size), repeat=size) for size in (3, 2, 2, 2)))
    exact = np.array(
        [
            [*first[np.ix_(orders, seeds, images)].mean(axis=(0, 1, 2)), second[np.ix_(orders, others, images)].mean()]
            for images, orders, seeds, others in draws
        ]
    )
    curves = np.concatenate(resample_sources([first, second], 60_000), axis=1)
    assert curves.mean(axis=0) == pytest.approx(exact.mean(axis=0), abs=0.004)
    assert np.cov(curves, rowvar=False) == pytest.approx(np.cov(exact, rowvar=False, bias=True), abs=0.0015)
    for value in np.unique(exact[:, 0].round(9)):
        assert (curves[:, 0] <= value + 1e-9).mean() == pytest.approx((exact[:, 0] <= value + 1e-9).mean(), abs=0.01)


@pytest.mark.parametrize("shape", [(200, 4), (3, 1, 200, 4)])
def test_without_seeds_the_replicates_are_those_of_a_category_curve(shape: tuple[int, ...]) -> None:
    correct = RNG.random(shape) < 0.7
    expected = resample(count_patterns(correct if len(shape) == 2 else correct[:, 0]), 100, seed=4)
    assert (resample_sources([with_sources(correct, 4)], 100, seed=4)[0] == expected).all()


def test_repeats_that_agree_are_one() -> None:
    one = RNG.random((50, 3)) < 0.7
    other = RNG.random((50, 3)) < 0.7
    assert with_sources(np.stack([one, one]), 3).shape == (1, 1, 50, 3)
    assert with_sources(np.stack([one, other]), 3).shape == (1, 2, 50, 3)
    assert with_sources(np.stack([[one, other], [one, other]]), 3).shape == (1, 2, 50, 3)
    assert with_sources(np.stack([[one, one], [other, other]]), 3).shape == (2, 1, 50, 3)


@pytest.mark.parametrize("shape", [(5,), (0, 3), (5, 2), (0, 5, 3), (1, 1, 1, 5, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected correct"):
        with_sources(np.zeros(shape, bool), 3)


@pytest.mark.parametrize("shape", [(2, 1, 9, 2), (3, 1, 10, 2)])
def test_arms_that_do_not_match_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="same images and orders"):
        resample_sources([RNG.random((2, 1, 10, 2)) < 0.5, RNG.random(shape) < 0.5], 10)


def test_band_and_adjusted_p_are_those_of_all_resamples() -> None:
    # the contrasts of four images: each of the 256 resamples is as likely as any other
    contrasts = np.array([[1, 0], [1, 1], [0, -1], [1, 1]], dtype=float)
    everything = np.array([contrasts[list(draw)].mean(axis=0) for draw in product(range(4), repeat=4)])
    squares = (contrasts**2).sum(axis=0)
    centre = contrasts.sum(axis=0) / 6
    error = np.sqrt(squares + 2 - contrasts.sum(axis=0) ** 2 / 6) / 6
    deviation = (np.abs(everything - contrasts.mean(axis=0)) / error).max(axis=1)
    shares = (deviation[:, None] >= centre / error - 1e-9).mean(axis=0)

    draws = RNG.integers(256, size=40_000)
    found = paired_effects(contrasts.mean(axis=0), everything[draws], 4, squares)
    assert found.centre == pytest.approx(centre, abs=1e-12)
    assert found.error == pytest.approx(error, abs=1e-12)
    assert found.p == pytest.approx(2 * norm.sf(centre / error), abs=1e-12)
    assert found.p_max_t == pytest.approx(np.maximum(shares, found.p), abs=0.01)
    low, high = found.band(0.9)
    quantile = np.quantile(deviation, 0.9)
    assert quantile > norm.ppf(0.95)
    assert (low, high) == (pytest.approx(centre - quantile * error), pytest.approx(centre + quantile * error))


def test_an_effect_of_single_answers_has_the_interval_of_a_paired_change() -> None:
    correct = RNG.random((300, 2)) < [0.6, 0.7]
    gained, lost = (correct[:, 1] & ~correct[:, 0]).sum(), (correct[:, 0] & ~correct[:, 1]).sum()
    replicates = np.diff(resample_sources([with_sources(correct, 2)], 4000)[0], axis=1)
    change = np.diff(correct.mean(axis=0))
    exact = paired_effects(change, replicates, 300, squares=np.array([gained + lost]))
    assert np.ravel(exact.pointwise()) == pytest.approx(np.ravel(change_interval(gained, lost, 300)), abs=1e-12)
    assert paired_effects(change, replicates, 300).error == pytest.approx(exact.error, rel=0.05)


def test_replicates_that_do_not_vary_make_no_effect_certain() -> None:
    found = paired_effects(np.array([0.0, 1.0]), np.array([[0.0, 1.0]] * 50), 1, squares=np.array([0.0, 1.0]))
    low, high = found.band()
    assert (low == found.pointwise()[0]).all()
    assert (low < 0).all()
    assert (high > 0).all()
    assert (found.p_max_t >= found.p).all()
    assert found.p_max_t[1] > 0.05


def test_no_contrast_is_no_error() -> None:
    found = paired_effects(np.zeros(0), np.zeros((10, 0)), 5)
    assert [len(column) for column in (*found.columns().values(), found.p_max_t)] == [0] * 6


def test_with_repeats_the_error_is_that_of_the_replicates() -> None:
    replicates = 0.5 + 0.05 * RNG.standard_normal((4000, 1))
    assert paired_effects(np.array([0.5]), replicates, 1000).error == pytest.approx([0.05], rel=0.03)


def test_an_effect_that_is_zero_but_for_rounding_has_p_1() -> None:
    assert paired_effects(np.array([1e-17]), np.zeros((50, 1)), 1000, np.zeros(1)).p_max_t.tolist() == [1]
