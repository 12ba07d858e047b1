"""Paired counts, their errors and McNemar's test against direct computation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from semscale.analysis import mcnemar_p, paired_counts


def test_counts_changes_and_errors_equal_direct_computation() -> None:
    rng = np.random.default_rng(0)
    correct = rng.random((500, 4)) < [0.5, 0.6, 0.7, 0.65]
    counts = paired_counts(correct)
    for i in range(4):
        for j in range(4):
            difference = correct[:, j].astype(float) - correct[:, i]
            assert counts.gained[i, j] == (difference > 0).sum()
            assert counts.lost[i, j] == (difference < 0).sum()
            assert counts.change()[i, j] == pytest.approx(difference.mean(), abs=1e-15)
            assert counts.standard_error()[i, j] == pytest.approx(difference.std() / np.sqrt(500), abs=1e-15)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (3, 9), (9, 3), (40, 41), (300, 200)])
def test_mcnemar_is_the_two_sided_binomial_test(gained: int, lost: int) -> None:
    n = gained + lost
    expected = min(1.0, 2 * binom.cdf(min(gained, lost), n, 0.5)) if n else 1.0
    assert mcnemar_p(gained, lost) == pytest.approx(expected, abs=1e-12)
