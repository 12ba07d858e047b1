"""An arm against its control, and single additions over orders."""

from __future__ import annotations

import numpy as np
import pytest
from populations import population
from scipy.stats import binomtest

from semscale.analysis import addition_effects, change_interval, compare_with_control, holm
from semscale.analysis.answer_patterns import CorrectnessPatterns


def predictions(accuracies: list[float], n: int = 1000, seed: int = 0) -> np.ndarray:
    right = np.arange(n)[:, None] < np.round(n * np.array(accuracies))
    return right ^ (np.random.default_rng(seed).random(right.shape) < 0.02)


def test_steps_are_paired_comparisons() -> None:
    arm, control = predictions([0.6, 0.66, 0.7], seed=1), predictions([0.6, 0.62, 0.63], seed=2)
    table = compare_with_control([1, 2, 3], arm, control).steps
    low, high = change_interval(table["gained"], table["lost"], 1000)
    for step in range(3):
        gained, lost = (arm & ~control)[:, step].sum(), (control & ~arm)[:, step].sum()
        assert (table["gained"][step], table["lost"][step]) == (gained, lost)
        assert table["p"][step] == pytest.approx(binomtest(int(gained), int(gained + lost)).pvalue, rel=1e-9)
    assert table["difference"].tolist() == pytest.approx((arm.mean(axis=0) - control.mean(axis=0)).tolist())
    assert table["low"].tolist() == pytest.approx(low.tolist(), abs=1e-12)
    assert table["high"].tolist() == pytest.approx(high.tolist(), abs=1e-12)
    assert table["p_holm"].tolist() == pytest.approx(holm(table["p"]).tolist())
    assert (table["band_low"] < table["low"]).all()


def test_the_mean_leaves_the_class_names_out() -> None:
    arm, control = predictions([0.6, 0.66, 0.7]), predictions([0.6, 0.62, 0.64])
    found = compare_with_control([1, 2, 3], arm, control)
    assert found.difference == pytest.approx((arm - control.astype(float))[:, 1:].mean())
    assert found.low < found.difference < found.high
    assert found.p < 1e-6


def test_an_arm_against_itself_differs_in_nothing() -> None:
    arm = predictions([0.6, 0.66, 0.7])
    found = compare_with_control([1, 2, 3], arm, arm)
    assert (found.difference, found.p) == (0, 1)
    assert (found.steps["difference"] == 0).all()
    assert (found.steps["low"] == -found.steps["high"]).all()


def test_several_orders_of_the_control() -> None:
    arm = predictions([0.6, 0.7])
    controls = np.stack([predictions([0.6, final], seed=seed) for seed, final in enumerate((0.58, 0.62, 0.66))])
    found = compare_with_control([1, 2], arm, controls)
    assert found.steps["gained"].isna().all()
    assert found.difference == pytest.approx(arm[:, 1].mean() - controls[:, :, 1].mean())
    one = compare_with_control([1, 2], arm, controls[1])
    assert found.high - found.low > one.high - one.low


def test_the_interval_of_the_mean_covers() -> None:
    source: CorrectnessPatterns = population((0.7, 0.72, 0.73, 0.70, 0.71, 0.71))
    rng, held = np.random.default_rng(0), []
    for seed in range(300):
        rows = source.rows[rng.choice(len(source.counts), 500, p=source.counts / source.n_images), 0]
        found = compare_with_control([1, 2, 3], rows[:, [0, 1, 2]], rows[:, [3, 4, 5]], replicates=200, seed=seed)
        held.append(found.low <= 0.015 <= found.high)
    assert 0.92 <= np.mean(held) <= 0.98


@pytest.mark.parametrize("shape", [(900, 3), (1000, 2)])
def test_arms_that_do_not_fit_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="same images"):
        compare_with_control([1, 2, 3], predictions([0.6, 0.6, 0.6]), np.zeros(shape, bool))


def test_an_addition_is_told_from_its_step() -> None:
    # "cs" adds 5 points wherever it comes, "large c" nothing
    orders = np.stack([predictions([0.6, 0.65, 0.65], seed=3), predictions([0.6, 0.6, 0.65], seed=4)])
    table = addition_effects(orders, [["c", "cs", "large c"], ["c", "large c", "cs"]]).set_index("added")
    assert table.index.tolist() == ["cs", "large c"]
    assert (table["n_orders"] == 2).all()
    for name, effect in (("cs", 0.05), ("large c", 0.0)):
        row = table.loc[name]
        assert row["low"] < effect < row["high"]
        assert row["smallest"] <= row["effect"] <= row["largest"]
    assert table["low"]["cs"] > 0


def test_names_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="a name for every order"):
        addition_effects(np.zeros((2, 10, 3), bool), [["a", "b", "c"]])
