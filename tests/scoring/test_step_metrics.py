"""Trial metrics against scikit-learn, the calibration error against its definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from semscale.scoring import expected_calibration_error, trial_metrics


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("seed", range(5))
def test_metrics_equal_those_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 7, 400).astype(np.int32)
    guess = rng.integers(0, 8, 400).astype(np.int32)  # class 7 is predicted and never true, class 8 neither
    predicted = np.where(rng.random(400) < 0.6, true, guess).astype(np.int32)
    rank = np.where(predicted == true, 0, rng.integers(1, 9, 400)).astype(np.int32)
    margin = rng.standard_normal(400).astype(np.float32)
    metrics = trial_metrics(predicted, true, rank, margin, 9)
    assert metrics.accuracy == pytest.approx(accuracy_score(true, predicted), abs=1e-12)
    assert metrics.n_correct == (predicted == true).sum()
    assert metrics.macro_f1 == pytest.approx(f1_score(true, predicted, average="macro"), abs=1e-12)
    assert metrics.balanced_accuracy == pytest.approx(balanced_accuracy_score(true, predicted), abs=1e-12)
    assert np.isnan(metrics.calibration_error)
    assert metrics.per_class_images.tolist() == [int((true == c).sum()) for c in range(9)]
    assert metrics.top5 == (rank < 5).mean()
    assert metrics.mean_margin == pytest.approx(margin.mean(), abs=1e-6)
    for c in range(7):
        assert metrics.per_class_accuracy[c] == pytest.approx((predicted[true == c] == c).mean(), abs=1e-12)
    assert np.isnan(metrics.per_class_accuracy[7:]).all()


def test_no_images_or_unequal_lengths_are_refused() -> None:
    none = np.empty(0, np.int32)
    with pytest.raises(ValueError, match="one or more images"):
        trial_metrics(none, none, none, none.astype(np.float32), 2)
    one = np.zeros(1, np.int32)
    with pytest.raises(ValueError, match="one or more images"):
        trial_metrics(one, one, none, none.astype(np.float32), 2)


def test_confidences_add_the_calibration_error() -> None:
    true, rank = np.array([0, 1], np.int32), np.zeros(2, np.int32)
    margin, confidence = np.ones(2, np.float32), np.array([0.75, 0.25], np.float32)
    assert trial_metrics(true, true, rank, margin, 2, confidence).calibration_error == pytest.approx(0.5)


def reference(confidence: NDArray[Any], right: NDArray[Any], bins: int) -> float:
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
def test_the_calibration_error_is_as_defined(rows: list[tuple[float, bool]], bins: int) -> None:
    confidence = np.array([row[0] for row in rows], np.float32)
    right = np.array([row[1] for row in rows])
    assert expected_calibration_error(confidence, right, bins) == pytest.approx(
        reference(confidence, right, bins), abs=1e-9
    )


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
def test_invalid_inputs_are_refused(confidence: list[float], right: list[bool], bins: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        expected_calibration_error(np.array(confidence, np.float32), np.array(right, dtype=bool), bins)
