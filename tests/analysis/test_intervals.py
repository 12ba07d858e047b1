"""Wilson intervals against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from semscale.analysis import wilson_interval


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
