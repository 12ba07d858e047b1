"""The peak against enumeration and against nulls of known behaviour."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from populations import CURVES, samples

from semscale.analysis.answer_patterns import count_patterns
from semscale.analysis.bootstrap import resample
from semscale.analysis.peak import find_peak, permuted_peaks


def test_permutations_have_the_distribution_that_enumeration_gives() -> None:
    correct = np.array([[0, 1, 1], [0, 0, 1], [1, 1, 1], [0, 1, 0]], dtype=bool)
    ways = [sorted(set(permutations(row))) for row in correct.tolist()]
    peaks = [
        float(max(m - means[0] for m in means))
        for rows in product(*ways)
        if (means := np.mean(rows, axis=0)) is not None
    ]
    drawn = permuted_peaks(count_patterns(correct), 40_000, np.random.default_rng(0))
    for value in (0.0, 0.25, 0.5, 0.75):
        assert (drawn >= value - 1e-9).mean() == pytest.approx(np.mean(np.array(peaks) >= value - 1e-9), abs=0.01)


def test_several_equal_orders_have_the_null_of_one() -> None:
    correct = np.random.default_rng(2).random((500, 6)) < 0.7
    one = permuted_peaks(count_patterns(correct), 20_000, np.random.default_rng(0))
    many = permuted_peaks(count_patterns(np.stack([correct] * 4)), 20_000, np.random.default_rng(1))
    assert many.mean() == pytest.approx(one.mean(), rel=0.05)
    assert np.quantile(many, 0.95) == pytest.approx(np.quantile(one, 0.95), rel=0.05)


def test_a_flat_curve_has_a_small_p_no_more_often_than_it_should() -> None:
    low = [
        find_peak(patterns, resample(patterns, 300, seed), 300, seed).p <= 0.05
        for seed, patterns in enumerate(samples(CURVES["flat"], 1000, 150))
    ]
    assert np.mean(low) <= 0.07


def test_the_change_at_the_peak_is_biased_upwards_and_the_corrected_one_is_not() -> None:
    peaks = [
        find_peak(patterns, resample(patterns, 50, seed), 50, seed)
        for seed, patterns in enumerate(samples(CURVES["flat"], 1000, 200))
    ]
    assert np.mean([peak.change for peak in peaks]) > 0.008
    assert np.mean([peak.corrected for peak in peaks]) == pytest.approx(0, abs=0.002)
    assert np.mean([peak.null_mean for peak in peaks]) > 0.008


def test_a_clear_peak() -> None:
    correct = np.arange(2000)[:, None] < np.array([1200, 1300, 1400, 1350])
    patterns = count_patterns(correct)
    peak = find_peak(patterns, resample(patterns, 999), 999)
    assert (peak.step, peak.p) == (2, 0.001)
    assert (peak.change, peak.corrected) == (pytest.approx(0.1), pytest.approx(0.1, abs=0.005))


def test_a_baseline_that_is_never_beaten_has_p_1() -> None:
    patterns = count_patterns(np.arange(100)[:, None] < np.array([80, 80, 60]))
    peak = find_peak(patterns, resample(patterns, 50), 50)
    assert (peak.step, peak.change, peak.p) == (0, 0.0, 1.0)
