"""Tests over steps against scipy, and bands against the intervals of single pairs."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from scipy.stats import binomtest, friedmanchisquare, norm

from semscale.analysis import change_interval, holm
from semscale.analysis.answer_patterns import count_patterns
from semscale.analysis.bootstrap import resample
from semscale.analysis.contrasts import contrasts
from semscale.analysis.step_tests import cochran_q, compare_steps

RNG = np.random.default_rng(5)
CORRECT = RNG.standard_normal(600)[:, None] + 0.4 * RNG.standard_normal((600, 4)) < [0.5, 0.6, 0.62, 0.45]
ORDERS = np.stack([CORRECT, RNG.permuted(CORRECT, axis=1), CORRECT[:, ::-1]])


def test_cochran_is_friedman_with_its_correction_for_ties() -> None:
    test = cochran_q(count_patterns(CORRECT))
    expected = friedmanchisquare(*CORRECT.T.astype(int))
    assert (test.q, test.degrees) == (pytest.approx(expected.statistic, rel=1e-9), 3)
    assert test.p == pytest.approx(expected.pvalue, rel=1e-9)


def test_cochran_of_a_constant_curve() -> None:
    same = cochran_q(count_patterns(np.repeat(CORRECT[:, :1], 3, axis=1)))
    assert (same.q, same.p) == (0.0, 1.0)
    assert cochran_q(count_patterns(CORRECT[:, :1])).p == 1.0


def test_cochran_of_equal_orders_is_that_of_one() -> None:
    assert cochran_q(count_patterns(np.stack([CORRECT] * 3))).q == pytest.approx(
        cochran_q(count_patterns(CORRECT)).q, rel=1e-12
    )


@pytest.mark.parametrize("against", ["first", "previous"])
def test_steps_against_another_one(against: Literal["first", "previous"]) -> None:
    patterns = count_patterns(CORRECT)
    tests = compare_steps(patterns, contrasts(patterns, resample(patterns, 100)), against)
    for step in range(1, 4):
        base = CORRECT[:, 0 if against == "first" else step - 1]
        gained, lost = int((CORRECT[:, step] & ~base).sum()), int((base & ~CORRECT[:, step]).sum())
        assert (tests["gained"][step], tests["lost"][step]) == (gained, lost)
        assert tests["mcnemar_p"][step] == pytest.approx(binomtest(gained, gained + lost).pvalue, rel=1e-9)
    assert (tests["mcnemar_p"][0], tests["gained"][0], tests["lost"][0]) == (1.0, 0, 0)
    assert tests["mcnemar_p_holm"][1:] == pytest.approx(holm(tests["mcnemar_p"][1:]), abs=1e-15)


def test_orders_are_tested_with_their_error() -> None:
    patterns = count_patterns(ORDERS)
    pairwise = contrasts(patterns, resample(patterns, 500))
    tests = compare_steps(patterns, pairwise)
    assert tests["gained"].tolist() == (ORDERS & ~ORDERS[:, :, :1]).sum(axis=(0, 1)).tolist()
    z = np.abs(pairwise.change[0, 1:]) / pairwise.error[0, 1:]
    assert tests["mcnemar_p"][1:] == pytest.approx(2 * norm.sf(z), rel=1e-9)


def test_contrasts_are_bonett_and_price_for_every_pair() -> None:
    patterns = count_patterns(CORRECT)
    pairwise = contrasts(patterns, resample(patterns, 500))
    low, high = pairwise.pointwise()
    band_low, band_high = pairwise.band()
    for i in range(4):
        for j in range(4):
            if i == j:
                assert low[i, j] == high[i, j] == 0
                continue
            gained, lost = (CORRECT[:, j] & ~CORRECT[:, i]).sum(), (CORRECT[:, i] & ~CORRECT[:, j]).sum()
            assert (low[i, j], high[i, j]) == pytest.approx(change_interval(gained, lost, 600), abs=1e-12)
            assert band_low[i, j] < low[i, j] < high[i, j] < band_high[i, j]
    first_low, first_high = pairwise.band_from_first()
    assert (first_low[1:] > band_low[0, 1:]).all()
    assert (first_high[1:] < band_high[0, 1:]).all()


def test_equal_orders_have_the_error_of_one() -> None:
    once, thrice = count_patterns(CORRECT), count_patterns(np.stack([CORRECT] * 3))
    one, three = (contrasts(patterns, resample(patterns, 4000)) for patterns in (once, thrice))
    assert three.error == pytest.approx(one.error, rel=0.05)
