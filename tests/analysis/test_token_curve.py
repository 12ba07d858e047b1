"""Token curves against category curves, and the critical budget against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from semscale.analysis import MARGIN, change_interval, compare_with_control, conclude
from semscale.analysis.token_curve import compare_with_controls, conclude_tokens

BUDGETS = [197, 148, 99, 50, 10]


def ladder(accuracies: list[float], n: int = 10_000, churn: float = 0.0, seed: int = 0) -> NDArray[np.bool_]:
    """Return images that are correct up to the given shares; with churn, answers after the first level also flip."""
    correct = np.arange(n)[:, None] < np.round(np.array(accuracies) * n)[None, :]
    flips = np.random.default_rng(seed).random(correct.shape) < churn
    flips[:, 0] = False
    return correct ^ flips


def defined_critical_budget(budgets: list[float], correct: NDArray[np.bool_], margin: float) -> float | None:
    """Return the smallest budget from which the gain to every larger one has an upper bound below the margin."""
    n = len(correct)
    for budget in sorted(budgets)[:-1]:
        mine = correct[:, budgets.index(budget)]
        larger = [correct[:, level] for level, other in enumerate(budgets) if other > budget]
        bounds = [change_interval((it & ~mine).sum(), (mine & ~it).sum(), n, 0.9)[1] for it in larger]
        if max(bounds) < margin:
            return budget
    return None


def test_without_seeds_a_token_curve_is_a_category_curve_but_for_its_budget() -> None:
    correct = ladder([0.8, 0.8, 0.78, 0.75, 0.6], n=800, churn=0.04)
    tokens, categories = conclude_tokens(BUDGETS, correct, seed=3), conclude(range(1, 6), correct, seed=3)
    same = set(tokens.columns()) & set(categories.columns()) - {"critical_low", "critical_high"}
    assert len(same) == 14
    for name in same:
        assert getattr(tokens, name) == getattr(categories, name), name
    assert tokens.peak_budget == BUDGETS[categories.peak_scale - 1]
    assert tokens.levels["level"].tolist() == [0, 1, 2, 3, 4]
    assert tokens.levels["share"].tolist() == [budget / 197 for budget in BUDGETS]
    columns = [name for name in categories.steps if name != "scale"]
    assert tokens.levels[columns].equals(categories.steps[columns])


@pytest.mark.parametrize("margin", [0.002, MARGIN, 0.02])
def test_the_critical_budget_is_its_definition(margin: float) -> None:
    rng = np.random.default_rng(8)
    found = set()
    for seed in range(12):
        accuracies = 0.8 - np.sort(rng.choice([0, 0.003, 0.03, 0.1], 5))
        correct = ladder(accuracies.tolist(), n=4000, churn=0.01, seed=seed)
        budgets = (rng.permutation(5) + 1.5).tolist()
        summary = conclude_tokens(budgets, correct, margin, replicates=50)
        assert summary.critical_budget == defined_critical_budget(budgets, correct, margin)
        if summary.critical_level is not None:
            assert budgets[summary.critical_level] == summary.critical_budget
        assert min(budgets) <= summary.critical_low <= summary.critical_high <= max(budgets)
        found.add(summary.critical_budget)
    assert len(found) > 2


def test_the_critical_budget_is_where_the_loss_begins() -> None:
    summary = conclude_tokens(BUDGETS, ladder([0.8, 0.8, 0.799, 0.75, 0.6], churn=0.001))
    assert (summary.critical_budget, summary.critical_level, summary.trend) == (99, 2, "decline")
    assert (summary.critical_low, summary.critical_high) == (99, 99)
    assert conclude_tokens(BUDGETS, ladder([0.8] * 5)).critical_budget == 10
    assert conclude_tokens(BUDGETS, ladder([0.8, 0.82, 0.82, 0.82, 0.82])).critical_budget == 10
    falling = conclude_tokens(BUDGETS, ladder([0.8, 0.78, 0.75, 0.7, 0.6]))
    assert (falling.critical_budget, falling.critical_level) == (None, None)
    assert (falling.critical_low, falling.critical_high) == (197, 197)


def test_added_tokens_are_enough_where_no_more_help() -> None:
    summary = conclude_tokens([197, 198, 199, 201], ladder([0.7, 0.75, 0.75, 0.75]))
    assert (summary.critical_budget, summary.critical_level, summary.trend) == (198, 1, "rise-plateau")


def test_of_equal_budgets_the_level_farther_down_is_the_smaller() -> None:
    summary = conclude_tokens([197, 99, 99], ladder([0.8, 0.8, 0.8]))
    assert (summary.critical_budget, summary.critical_level) == (99, 2)
    summary = conclude_tokens([197, 99, 99], ladder([0.8, 0.8, 0.7]))
    assert (summary.critical_budget, summary.critical_level) == (99, 1)


def test_few_images_that_agree_everywhere_tell_nothing() -> None:
    summary = conclude_tokens([3, 2, 1], np.ones((20, 3), bool))
    assert (summary.critical_budget, summary.critical_low, summary.critical_high) == (None, 1, 3)
    assert (summary.trend, summary.peak_p, summary.cochran_p) == ("flat", 1, 1)
    levels = summary.levels[1:]
    assert (levels["change_band_low"] <= levels["change_low"]).all()
    assert (levels["change_high"] <= levels["change_band_high"]).all()
    assert (levels["change_low"] < 0).all()
    assert (levels[["gained", "lost"]] == 0).all(axis=None)
    assert (levels["mcnemar_p"] == 1).all()


@pytest.mark.parametrize(
    "correct", [np.ones((1, 1)), np.zeros((1, 2)), np.eye(1, 3), np.ones((3, 1, 2)), np.ones((2, 3, 9, 1))]
)
def test_one_image_and_one_level_are_curves(correct: NDArray[np.float64]) -> None:
    levels = correct.shape[-1]
    summary = conclude_tokens(BUDGETS[:levels], correct.astype(bool), replicates=20)
    assert (summary.n_images, summary.trend, summary.critical_budget) == (correct.shape[-2], "flat", None)
    assert summary.critical_high == 197
    assert summary.baseline_ci_low < summary.baseline_ci_high


@pytest.mark.parametrize(("n", "critical_low"), [(1, 99), (4, 197)])
def test_a_handful_of_images_that_all_change_is_no_decline(n: int, critical_low: float) -> None:
    summary = conclude_tokens([197, 99], np.tile([True, False], (n, 1)))
    assert (summary.final_change, summary.trend, summary.critical_low) == (-1, "flat", critical_low)
    assert summary.levels["mcnemar_p"][1] == 2 * 0.5**n


def test_seeds_make_one_curve_and_widen_its_intervals() -> None:
    seeds = np.stack([ladder([0.8, final], n=2000) for final in (0.72, 0.70, 0.68)])
    summary = conclude_tokens([197, 99], seeds)
    assert (summary.n_images, summary.n_orders, summary.n_seeds) == (2000, 1, 3)
    assert summary.final == pytest.approx(0.70)
    assert summary.levels["lost"].tolist() == [0, (160 + 200 + 240)]
    one = conclude_tokens([197, 99], seeds[1])
    assert summary.final_change_high - summary.final_change_low > 1.5 * (one.final_change_high - one.final_change_low)
    assert summary.critical_budget is None
    same = conclude_tokens([197, 99], np.stack([seeds[1]] * 3))
    assert same.n_seeds == 3
    assert same.levels.equals(one.levels)


def test_orders_and_seeds_are_two_sources() -> None:
    # orders differ by ten points, seeds do not: six repeats of two orders know no more than two orders
    orders = np.stack([ladder([0.8, final], n=5000) for final in (0.65, 0.75)])
    both = np.repeat(orders[:, None], 3, axis=1)
    both[:, :, 0, 1] ^= np.arange(3) == 1  # one answer, so that the seeds are not one and the same
    widths = []
    for correct in (both, both.reshape(6, 5000, 2)):
        summary = conclude_tokens([197, 99], correct)
        widths.append(summary.final_change_high - summary.final_change_low)
    assert widths[0] > 1.5 * widths[1]
    summary = conclude_tokens([197, 99], both)
    assert (summary.n_orders, summary.n_seeds) == (2, 3)


def test_controls_are_compared_at_equal_budgets() -> None:
    strategy = ladder([0.8, 0.79, 0.75], n=1000, churn=0.02)
    radial = ladder([0.8, 0.76, 0.7], n=1000, churn=0.02, seed=1)
    random = np.stack(
        [ladder([0.8, 0.74, final], n=1000, churn=0.02, seed=seed) for seed, final in ((2, 0.6), (3, 0.65))]
    )
    table = compare_with_controls([197, 99, 50], strategy, {"radial": radial, "random": random}, replicates=300)
    assert table["control"].tolist() == ["radial"] * 4 + ["random"] * 4
    assert table["level"].isna().tolist() == [True, False, False, False] * 2
    assert table["level"].dropna().tolist() == [0, 1, 2] * 2
    assert table["budget"].iloc[1:4].tolist() == [197, 99, 50]
    for name, control in (("radial", radial), ("random", random)):
        expected = compare_with_control([1, 2, 3], strategy, control, replicates=300).table()
        mine = table[table["control"] == name]
        for column in ("difference", "low", "high", "band_low", "band_high", "p", "p_holm"):
            np.testing.assert_array_equal(mine[column].astype(float), expected[column].astype(float))
    assert table["p"].iloc[1] == 1
    assert table["lost"].iloc[1:4].tolist() == (radial & ~strategy).sum(axis=0).tolist()
    assert compare_with_controls([197, 99, 50], strategy, {}).empty


def test_the_orders_of_a_strategy_are_those_of_its_control() -> None:
    # every order moves both arms by the same, so their difference does not depend on the order
    strategy = np.stack([ladder([base, base - 0.02], n=2000, churn=0.02, seed=1)[None] for base in (0.6, 0.7, 0.8)])
    control = np.stack([ladder([base, base - 0.05], n=2000, churn=0.02, seed=2)[None] for base in (0.6, 0.7, 0.8)])
    control[..., 0] = strategy[..., 0]
    row = compare_with_controls([197, 99], strategy, {"random": control}).iloc[2]
    assert row["difference"] == pytest.approx(strategy[..., 1].mean() - control[..., 1].mean())
    assert row["low"] < row["difference"] < row["high"]
    assert row["band_low"] <= row["low"]
    assert row["p"] < 0.001
    apart = compare_with_control([1, 2], strategy[:, 0], control[:, 0]).steps.iloc[1]
    assert row["high"] - row["low"] < 0.4 * (apart["high"] - apart["low"])
    mean = compare_with_controls([197, 99], strategy, {"random": control}).iloc[0]
    assert (mean["difference"], mean["low"]) == (pytest.approx(row["difference"]), pytest.approx(row["low"]))


def test_a_control_of_other_images_is_refused() -> None:
    strategy = ladder([0.8, 0.7], n=100)
    for control, message in (
        (strategy[::-1], "unmodified tower"),
        (strategy[1:], "same 100 images"),
        (strategy[:, :1], "2 levels"),
    ):
        with pytest.raises(ValueError, match=message):
            compare_with_controls([197, 99], strategy, {"random": control})


@pytest.mark.parametrize("budgets", [[197, 0], [197, float("nan")], [197]])
def test_budgets_that_do_not_match_are_refused(budgets: list[float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        conclude_tokens(budgets, ladder([0.8, 0.7], n=100))


def test_same_seed_same_conclusions() -> None:
    correct = np.stack([ladder([0.8, 0.75, 0.7], n=300, churn=0.05, seed=seed) for seed in range(3)])
    first, second = (conclude_tokens([3, 2, 1], correct, seed=7, replicates=100) for _ in range(2))
    assert first.levels.equals(second.levels)
    assert first.columns() == second.columns()
    assert not first.levels.equals(conclude_tokens([3, 2, 1], correct, seed=8, replicates=100).levels)
