"""The expected calibration error against its definition, bin by bin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from semscale.scoring import expected_calibration_error


def slow(confidence: NDArray[Any], right: NDArray[Any], bins: int) -> float:
    error = 0.0
    for b in range(bins):
        low, high = b / bins, (b + 1) / bins
        inside = [i for i, value in enumerate(confidence.tolist()) if low < value <= high or (b == 0 and value == 0)]
        if inside:
            gap = abs(np.mean(right[inside]) - np.mean(confidence[inside].astype(np.float64)))
            error += len(inside) / len(confidence) * gap
    return error


@given(
    rows=st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=60),
    bins=st.sampled_from([1, 2, 4, 8, 16]),  # edges that floating point holds exactly
)
def test_it_is_what_the_definition_says(rows: list[tuple[float, bool]], bins: int) -> None:
    confidence = np.array([row[0] for row in rows], np.float32)
    right = np.array([row[1] for row in rows])
    assert expected_calibration_error(confidence, right, bins) == pytest.approx(slow(confidence, right, bins), abs=1e-9)


def test_calibrated_predictions_have_a_small_error_and_bold_ones_a_large_one() -> None:
    rng = np.random.default_rng(3)
    confidence = rng.uniform(0.2, 1, 100_000).astype(np.float32)
    right = rng.random(100_000) < confidence
    assert expected_calibration_error(confidence, right) < 0.01
    assert expected_calibration_error(np.ones_like(confidence), right) == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize(
    ("confidence", "right", "bins"),
    [([], [], 15), ([0.5], [True, False], 15), ([1.5], [True], 15), ([np.nan], [True], 15), ([0.5], [True], 0)],
)
def test_what_does_not_fit_is_refused(confidence: list[float], right: list[bool], bins: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        expected_calibration_error(np.array(confidence, np.float32), np.array(right, dtype=bool), bins)
