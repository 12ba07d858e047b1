"""Two steps on the same images: McNemar, the interval of a change, and Holm, against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from semscale.analysis import change_interval, holm, mcnemar_p


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
def test_impossible_counts_are_refused(gained: int, lost: int, n: int, confidence: float) -> None:
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
