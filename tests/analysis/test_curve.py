"""Conclusions of curves whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from semscale.analysis import change_interval, conclude, holm, mcnemar_p, wilson_interval


def curve(accuracies: list[float], n: int = 10_000, churn: float = 0.0, seed: int = 0) -> NDArray[np.bool_]:
    """Return correctness with exactly these accuracies; with churn, single predictions also flip at random."""
    correct = np.arange(n)[:, None] < np.round(np.array(accuracies) * n)[None, :]
    flips = np.random.default_rng(seed).random(correct.shape) < churn
    return correct ^ flips


@pytest.mark.parametrize(
    ("accuracies", "trend"),
    [
        ([0.70] * 12, "flat"),
        ([0.70, 0.702, 0.699, 0.70], "flat"),
        ([0.60, 0.62, 0.64, 0.66, 0.68, 0.70], "rise"),
        ([0.60, 0.68, 0.70, 0.70, 0.70, 0.70], "rise-plateau"),
        ([0.60, 0.66, 0.70, 0.68, 0.64, 0.62], "rise-decline"),
        ([0.60, 0.66, 0.70, 0.66, 0.60, 0.50], "rise-decline"),
        ([0.70, 0.68, 0.64, 0.62, 0.62, 0.62], "decline"),
        ([0.70, 0.60, 0.75, 0.75], "fluctuating"),
        ([0.60, 0.70, 0.60, 0.68], "fluctuating"),
        ([0.70, 0.60, 0.66, 0.69], "fluctuating"),
        ([0.70], "flat"),
        ([0.60, 0.70], "rise"),
        ([0.60, 0.70, 0.70], "rise-plateau"),
    ],
)
def test_trends_of_clear_curves(accuracies: list[float], trend: str) -> None:
    assert conclude(range(1, len(accuracies) + 1), curve(accuracies)).trend == trend


def test_a_flat_curve_with_noise_is_classified_as_flat() -> None:
    trends = [
        conclude(range(1, 13), curve([0.7] * 12, n=2000, churn=0.05, seed=seed), replicates=200).trend
        for seed in range(40)
    ]
    assert trends.count("flat") >= 38


def test_few_images_give_no_trend() -> None:
    assert conclude([1, 2, 3], curve([0.6, 0.7, 0.7], n=20)).trend == "flat"


def test_numbers_of_the_summary() -> None:
    correct = curve([0.5, 0.8, 0.8, 0.7], n=1000, churn=0.02)
    summary = conclude([1, 2, 4, 8], correct)
    accuracy = correct.mean(axis=0)
    assert summary.n_images == 1000
    assert summary.baseline == accuracy[0]
    low, high = wilson_interval(int(correct[:, 0].sum()), 1000)
    assert (summary.baseline_ci_low, summary.baseline_ci_high) == (low, high)
    assert summary.peak == accuracy.max()
    assert summary.peak_scale == [1, 2, 4, 8][int(accuracy.argmax())]
    assert summary.peak_change == pytest.approx(accuracy.max() - accuracy[0], abs=1e-15)
    assert summary.final_change == pytest.approx(accuracy[3] - accuracy[0], abs=1e-15)
    for k, row in enumerate(summary.steps.to_dict("records")):
        gained = int((correct[:, k] & ~correct[:, 0]).sum())
        lost = int((correct[:, 0] & ~correct[:, k]).sum())
        assert (row["scale"], row["n_correct"]) == ([1, 2, 4, 8][k], correct[:, k].sum())
        assert (row["gained"], row["lost"]) == (gained, lost)
        assert row["mcnemar_p"] == mcnemar_p(gained, lost)
        assert row["ci_low"] < row["accuracy"] == accuracy[k] < row["ci_high"]


def test_the_peak_is_at_the_smallest_scale_that_reaches_it() -> None:
    assert conclude([1, 2, 4], curve([0.5, 0.6, 0.6])).peak_scale == 2


def test_critical_scale_is_where_the_gain_ends() -> None:
    assert conclude([1, 2, 3, 4, 5], curve([0.6, 0.64, 0.68, 0.68, 0.67])).critical_scale == 3
    assert conclude([1, 2, 3], curve([0.7, 0.7, 0.7])).critical_scale == 1
    # a later gain below the margin does not count, unless the margin is made smaller
    assert conclude([1, 2, 3], curve([0.6, 0.7, 0.702])).critical_scale == 2
    assert conclude([1, 2, 3], curve([0.6, 0.7, 0.702]), margin=0.001).critical_scale is None


def test_critical_scale_is_open_while_the_curve_rises_or_images_are_few() -> None:
    assert conclude([1, 2, 3], curve([0.6, 0.65, 0.7])).critical_scale is None
    swapped = np.zeros((200, 2), dtype=bool)
    swapped[:100, 0] = swapped[20:120, 1] = True  # 20 gained, 20 lost: what 200 images cannot tell from a gain
    assert conclude([1, 2], swapped).critical_scale is None
    assert conclude([1, 2], np.tile(swapped, (200, 1))).critical_scale == 1
    assert conclude([1], curve([0.7])).critical_scale is None


@pytest.mark.parametrize("correct", [np.zeros((0, 2), bool), np.zeros((5, 3), bool), np.zeros(5, bool)])
def test_shapes_that_do_not_fit_are_refused(correct: NDArray[np.bool_]) -> None:
    with pytest.raises(ValueError, match="expected correct"):
        conclude([1, 2], correct)


def test_the_table_of_steps_has_the_intervals_and_tests_of_single_steps() -> None:
    correct = curve([0.6, 0.62, 0.64, 0.64], n=800, churn=0.03)
    steps = conclude([1, 2, 4, 8], correct).steps
    assert steps["mcnemar_p_holm"][1:].tolist() == pytest.approx(holm(steps["mcnemar_p"][1:]).tolist())
    assert steps["previous_gained"][3] == (correct[:, 3] & ~correct[:, 2]).sum()
    low, high = change_interval(steps["gained"], steps["lost"], 800)
    assert steps["change_low"][1:].tolist() == pytest.approx(low[1:].tolist(), abs=1e-12)
    assert steps["change_high"][1:].tolist() == pytest.approx(high[1:].tolist(), abs=1e-12)
    assert (steps["band_low"] < steps["ci_low"]).all()
    assert (steps["band_high"] > steps["ci_high"]).all()
    assert (steps["change_band_low"] <= steps["change_low"]).all()


def test_duplicates_move_nothing() -> None:
    summary = conclude([1, 2, 3], np.repeat(curve([0.7], n=5000), 3, axis=1))
    assert (summary.peak_change, summary.final_change, summary.peak_change_corrected) == (0, 0, 0)
    assert (summary.peak_p, summary.cochran_p, summary.trend) == (1.0, 1.0, "flat")
    assert (summary.critical_scale, summary.critical_low, summary.critical_high) == (1, 1, 1)
    assert summary.ever_correct == summary.baseline


def test_the_critical_interval_is_about_the_critical_scale() -> None:
    summary = conclude(range(1, 9), curve([0.60, 0.64, 0.68, 0.70, 0.70, 0.70, 0.70, 0.70], churn=0.02))
    assert summary.critical_scale == 4
    assert summary.critical_low <= 4 <= summary.critical_high
    rising = conclude([1, 2, 3], curve([0.6, 0.65, 0.7]))
    assert (rising.critical_low, rising.critical_high) == (3, 3)
    few = conclude([1, 2, 4], curve([0.6, 0.61, 0.6], n=100))
    assert (few.critical_scale, few.critical_low, few.critical_high) == (None, 1, 4)


def test_orders_make_one_curve() -> None:
    orders = np.stack([curve([0.6, 0.66, 0.7], churn=0.02, seed=seed, n=2000) for seed in range(4)])
    summary = conclude([1, 2, 3], orders)
    assert (summary.n_images, summary.n_orders) == (2000, 4)
    assert summary.final == pytest.approx(orders[:, :, 2].mean())
    assert summary.steps["n_correct"].tolist() == orders.sum(axis=(0, 1)).tolist()
    assert summary.baseline_ci_low < summary.baseline < summary.baseline_ci_high
    assert summary.ever_correct == orders.any(axis=(0, 2)).mean()
    assert summary.trend == "rise"
    assert summary.peak_p < 0.01


def test_orders_that_disagree_widen_the_interval() -> None:
    same = np.stack([curve([0.6, 0.7], n=2000)] * 4)
    apart = np.stack([curve([0.6, final], n=2000) for final in (0.6, 0.65, 0.75, 0.8)])
    summaries = [conclude([1, 2], correct) for correct in (same, apart)]
    widths = [summary.final_change_high - summary.final_change_low for summary in summaries]
    assert widths[1] > 3 * widths[0]


def test_same_seed_same_conclusions() -> None:
    correct = curve([0.6, 0.62, 0.61], n=500, churn=0.05)
    first, second = conclude([1, 2, 3], correct, seed=7), conclude([1, 2, 3], correct, seed=7)
    assert first.steps.equals(second.steps)
    assert (first.peak_p, first.peak_change_corrected) == (second.peak_p, second.peak_change_corrected)


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("orders", [1, 3])
def test_a_curve_that_is_always_right_or_always_wrong_has_intervals(right: bool, orders: int) -> None:
    correct = np.full((40, 4) if orders == 1 else (orders, 40, 4), right)
    summary = conclude([1, 2, 3, 4], correct)
    assert summary.trend == "flat"
    assert (summary.steps["accuracy"] == float(right)).all()
    assert (summary.steps["band_low"] <= summary.steps["ci_low"]).all()
    assert (summary.steps["band_high"] >= summary.steps["ci_high"]).all()
    assert (summary.steps["band_high"] > summary.steps["band_low"]).all()
