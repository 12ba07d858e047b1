"""The interaction of scale and tokens against its definition, image by image."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import f, norm

from semscale.analysis.interaction import conclude_interaction

BUDGETS = [197, 148, 99, 50]


def answers(
    first: list[float], last: list[float], n: int = 1000, churn: float = 0.02, seed: int = 0
) -> NDArray[np.bool_]:
    """Return correctness at the first and at the last scale, bool[2, n, L]."""
    correct = np.arange(n)[None, :, None] < np.round(n * np.array([first, last]))[:, None, :]
    return correct ^ (np.random.default_rng(seed).random(correct.shape) < churn)


def test_the_recovery_is_a_difference_of_differences_of_each_image() -> None:
    first, last = answers([0.8, 0.78, 0.7, 0.5], [0.82, 0.81, 0.76, 0.51], n=700, churn=0.05)
    found = conclude_interaction(BUDGETS, first, last)
    assert found.gain_unmodified == pytest.approx(last[:, 0].mean() - first[:, 0].mean())
    assert found.levels["budget"].tolist() == BUDGETS[1:]
    for level, row in enumerate(found.levels.to_dict("records"), start=1):
        each = [(int(last[i, level]) - int(first[i, level])) - (int(last[i, 0]) - int(first[i, 0])) for i in range(700)]
        total, squares = sum(each), sum(d * d for d in each)
        error = np.sqrt(squares + 2 - total**2 / 702) / 702
        assert row["level"] == level
        assert row["recovered"] == pytest.approx(np.mean(each), abs=1e-12)
        assert row["recovered"] == pytest.approx(row["change_last"] - row["change_first"], abs=1e-12)
        assert row["recovered"] == pytest.approx(row["gain"] - found.gain_unmodified, abs=1e-12)
        assert row["change_first"] == pytest.approx(first[:, level].mean() - first[:, 0].mean(), abs=1e-12)
        assert (row["low"], row["high"]) == (
            pytest.approx(total / 702 - norm.ppf(0.975) * error, abs=1e-12),
            pytest.approx(total / 702 + norm.ppf(0.975) * error, abs=1e-12),
        )
        assert row["p"] == pytest.approx(2 * norm.sf(abs(total / 702) / error), rel=1e-9)
        assert row["band_low"] < row["low"] < row["high"] < row["band_high"]
        assert row["p"] <= row["p_max_t"]
    assert found.p == found.levels["p_max_t"].min()


@pytest.mark.parametrize("final", [0.6, 0.61, 0.63])
def test_with_one_level_the_test_is_hotellings(final: float) -> None:
    first, last = answers([0.8, 0.6], [0.8, final], n=2000, churn=0.05, seed=4)
    gain = last.astype(int) - first
    each = gain[:, 1] - gain[:, 0]
    t2 = 2000 * each.mean() ** 2 / each.var(ddof=1)
    assert conclude_interaction([2, 1], first, last, 10_000).p == pytest.approx(f.sf(t2, 1, 1999), abs=0.015)


def test_a_recovery_is_found_at_its_level() -> None:
    first, last = answers([0.8, 0.78, 0.7, 0.5], [0.82, 0.80, 0.79, 0.52])
    found = conclude_interaction(BUDGETS, first, last)
    assert found.level == 2
    assert found.p < 0.01
    assert found.levels["band_low"][1] > 0
    assert (found.levels["p_max_t"][[0, 2]] > 0.05).all()
    assert (found.levels["band_low"][[0, 2]] < 0).all()
    assert found.columns() == {
        "n_images": 1000, "gain_unmodified": found.gain_unmodified, "level": 2, "p": found.p
    }  # fmt: skip


def test_what_more_categories_cost_is_negative() -> None:
    # at a tenth of the tokens accuracy is at chance whatever the categories are
    first, last = answers([0.7, 0.1], [0.8, 0.1], churn=0.01)
    found = conclude_interaction([197, 20], first, last)
    assert found.levels["recovered"][0] == pytest.approx(-found.gain_unmodified, abs=0.02)
    assert found.levels["band_high"][0] < 0
    assert found.p < 0.01


def test_equal_gains_are_no_interaction() -> None:
    first, last = answers([0.8, 0.7, 0.6, 0.5], [0.85, 0.75, 0.65, 0.55], churn=0)
    equal = conclude_interaction(BUDGETS, first, last)
    assert equal.levels["recovered"].tolist() == pytest.approx([0, 0, 0], abs=1e-12)
    assert (equal.levels["high"] > 0.015).all()  # other images gain at every level
    assert equal.p == 1
    same = conclude_interaction(BUDGETS, first, first)
    assert (same.levels["recovered"] == 0).all()
    assert (same.p, same.level) == (1, 1)
    assert (same.levels["band_low"] == -same.levels["band_high"]).all()
    assert (same.levels["band_high"] > 0).all()


def test_levels_that_agree_have_equal_rows() -> None:
    first, last = answers([0.8, 0.7], [0.82, 0.76], churn=0.05)
    once = conclude_interaction([2, 1], first, last)
    doubled = conclude_interaction([3, 2, 1], first[:, [0, 1, 1]], last[:, [0, 1, 1]])
    numbers = doubled.levels.drop(columns=["level", "budget"])
    assert numbers.iloc[0].equals(numbers.iloc[1])
    assert numbers["p"].iloc[0] == once.levels["p"].iloc[0]
    assert doubled.p == pytest.approx(once.p, abs=0.02)


@pytest.mark.parametrize("images", [1, 3])
def test_a_handful_of_images_proves_nothing(images: int) -> None:
    first, last = np.tile([True, False], (images, 1)), np.ones((images, 2), bool)
    found = conclude_interaction([2, 1], first, last, replicates=50)
    assert found.levels["recovered"][0] == 1
    assert found.p > 0.05
    assert found.levels["band_low"][0] < 0


def test_the_unmodified_tower_alone_has_no_interaction() -> None:
    first, last = answers([0.7], [0.8])
    found = conclude_interaction([197], first, last)
    assert (found.level, found.p, len(found.levels)) == (None, 1, 0)
    assert found.gain_unmodified == pytest.approx(0.1, abs=0.02)


def test_seeds_and_orders_widen_the_interval() -> None:
    drawn = [answers([0.8, 0.6], [0.8, 0.6 + recovery], churn=0.01) for recovery in (0.0, 0.05, 0.1)]
    first, last = np.stack(drawn, axis=1)
    one = conclude_interaction([2, 1], first[1], last[1]).levels.iloc[0]
    for sources in (np.s_[:], np.s_[:, None]):  # seeds, or orders with a single seed
        many = conclude_interaction([2, 1], first[sources], last[sources]).levels.iloc[0]
        assert many["recovered"] == pytest.approx(0.05, abs=0.01)
        assert many["high"] - many["low"] > 2 * (one["high"] - one["low"])


def test_a_scale_without_orders_is_the_same_in_all_of_them() -> None:
    first = answers([0.8, 0.6], [0.8, 0.6])[0]
    last = np.stack([answers([0.8, 0.6], [0.82, 0.7], seed=seed)[1][None] for seed in range(3)])
    short = conclude_interaction([2, 1], first, last, replicates=100)
    full = conclude_interaction([2, 1], np.broadcast_to(first, last.shape), last, replicates=100)
    assert short.levels.equals(full.levels)
    with pytest.raises(ValueError, match="same images, orders and seeds"):
        conclude_interaction([2, 1], last[:2], last)


def test_scales_of_other_images_are_refused() -> None:
    first, last = answers([0.8, 0.6], [0.8, 0.6], n=100)
    with pytest.raises(ValueError, match="same images"):
        conclude_interaction([2, 1], first, last[:1])
    with pytest.raises(ValueError, match="2 levels"):
        conclude_interaction([2, 1], first, last[:, :1])
