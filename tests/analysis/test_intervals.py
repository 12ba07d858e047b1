"""Intervals and tests of proportions, against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from semscale.analysis import change_interval, holm, mcnemar_p, wilson_interval


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_equals_scipy(confidence: float) -> None:
    correct = np.array([0, 1, 3, 5, 10, 437, 999, 1000, 49_999])
    n = np.array([1, 1, 10, 5, 11, 1797, 1000, 1000, 50_000])
    low, high = wilson_interval(correct, n, confidence)
    for k, size, a, b in zip(correct.tolist(), n.tolist(), low, high, strict=True):
        expected = binomtest(k, size).proportion_ci(confidence, method="wilson")
        assert a == pytest.approx(expected.low, abs=1e-12)
        assert b == pytest.approx(expected.high, abs=1e-12)


def test_the_ends_are_exact_and_shapes_are_kept() -> None:
    low, high = wilson_interval([[0, 5], [3, 5]], 5)
    assert low.shape == high.shape == (2, 2)
    assert low[0, 0] == 0
    assert high[0, 1] == high[1, 1] == 1


@pytest.mark.parametrize(("correct", "n", "confidence"), [(1, 0, 0.95), (6, 5, 0.95), (-1, 5, 0.95), (1, 5, 1.0)])
def test_impossible_counts_are_refused(correct: int, n: int, confidence: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        wilson_interval(correct, n, confidence)


def test_mcnemar_is_the_two_sided_binomial_test() -> None:
    gained, lost = np.array([0, 1, 3, 9, 40, 300, 5000]), np.array([0, 0, 9, 3, 41, 200, 4800])
    for g, k, p in zip(gained.tolist(), lost.tolist(), mcnemar_p(gained, lost), strict=True):
        assert p == pytest.approx(binomtest(g, g + k).pvalue if g + k else 1.0, rel=1e-9)


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_interval_of_a_change_is_wald_with_one_gained_and_one_lost_more(confidence: float) -> None:
    gained, lost, n = 30, 12, 400
    rows = np.concatenate([np.ones(gained + 1), -np.ones(lost + 1), np.zeros(n - gained - lost)])
    reach = norm.ppf(0.5 + confidence / 2) * rows.std() / np.sqrt(len(rows))
    low, high = change_interval(gained, lost, n, confidence)
    assert (low, high) == pytest.approx((rows.mean() - reach, rows.mean() + reach), abs=1e-12)


def test_no_change_has_a_width() -> None:
    low, high = change_interval(0, 0, [100, 10_000])
    assert (low == -high).all()
    assert high[0] > 0.02 > high[1] > 0


@pytest.mark.parametrize(("gained", "lost", "n", "confidence"), [(-1, 0, 5, 0.95), (3, 3, 5, 0.95), (1, 1, 5, 1.0)])
def test_impossible_changes_are_refused(gained: int, lost: int, n: int, confidence: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        change_interval(gained, lost, n, confidence)


def test_holm_by_its_definition() -> None:
    p = np.random.default_rng(0).random(11) ** 3
    ranked = sorted(range(11), key=lambda i: p[i])
    expected, largest = [0.0] * 11, 0.0
    for position, i in enumerate(ranked):
        largest = max(largest, min(1.0, (11 - position) * p[i]))
        expected[i] = largest
    assert holm(p) == pytest.approx(expected, abs=1e-15)
    assert holm([]).tolist() == []
