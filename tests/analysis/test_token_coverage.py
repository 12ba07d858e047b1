"""Coverage by simulation on token ladders with a known truth, at two scales, without and with random seeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from populations import samples, true_critical_scale
from scipy.special import ndtri

from semscale.analysis import MARGIN
from semscale.analysis.interaction import conclude_interaction
from semscale.analysis.token_curve import conclude_tokens

BUDGETS = [197, 178, 138, 99, 50, 20]
FIRST = (0.70, 0.70, 0.698, 0.69, 0.66, 0.55)
LAST = {
    "recovers": (0.72, 0.72, 0.72, 0.72, 0.71, 0.60),
    "equal gains": tuple(round(accuracy + 0.02, 4) for accuracy in FIRST),
    "no gains": FIRST,
}
REPLICATES = 300
QUICK = {"recovers": {300: 50, 3000: 30}, "equal gains": {300: 50}}


@dataclass(frozen=True)
class Covered:
    """Shares of samples in which an interval covered the truth, and in which the joint test rejected at 5 %."""

    change: float
    change_band: float
    critical: float
    recovered: float
    recovered_band: float
    rejected: float


def covers(low: object, truth: NDArray[np.float64], high: object) -> NDArray[np.bool_]:
    return (np.asarray(low) <= truth + 1e-12) & (truth <= np.asarray(high) + 1e-12)


def draws(name: str, n: int, count: int) -> Iterator[NDArray[np.bool_]]:
    """Yield the correctness of n images at all levels of the first and of the last scale, bool[n, 2 L]."""
    for patterns in samples(FIRST + LAST[name], n, count):
        yield np.repeat(patterns.rows[:, 0], patterns.counts, axis=0)


def random_draws(name: str, n: int, count: int, seed_sd: float) -> Iterator[NDArray[np.bool_]]:
    """Yield the same for five seeds of random tokens, bool[K, n, 2 L].

    A fifth of the variance of a modified level is drawn for each image and seed, as its tokens are; `seed_sd` is what a
    seed adds to all images of a level, which is nothing where tokens are drawn from a hash of image and seed.
    """
    rng = np.random.default_rng(1)
    truth = np.array(FIRST + LAST[name])
    levels = len(FIRST)
    modified = np.tile(np.arange(levels) > 0, 2)
    for _ in range(count):
        ease = np.sqrt(0.5) * rng.standard_normal((n, 1))
        ease = ease + np.sqrt(0.3) * rng.standard_normal((n, 2)).repeat(levels, axis=1)  # of the scale
        ease += np.sqrt(0.2 * ~modified) * rng.standard_normal((n, 1))
        tokens = np.sqrt(0.2) * rng.standard_normal((5, n, levels)) + seed_sd * rng.standard_normal((5, 1, levels))
        ease = ease + modified * np.tile(tokens, 2)  # the same tokens at both scales
        yield ease < ndtri(truth) * np.sqrt(1 + modified * seed_sd**2)


@cache
def simulate(name: str, n: int, count: int, seed_sd: float | None = None) -> Covered:
    first, last = np.array(FIRST), np.array(LAST[name])
    changes = first - first[0]
    recovered = (last - last[0] - changes)[1:]
    rising = tuple(reversed(FIRST))
    critical = sorted(BUDGETS)[true_critical_scale(rising, MARGIN) - 1]
    held: dict[str, list[float]] = {key: [] for key in Covered.__annotations__}
    sample = draws(name, n, count) if seed_sd is None else random_draws(name, n, count, seed_sd)
    for number, correct in enumerate(sample):
        at_first, at_last = np.split(correct, 2, axis=-1)
        curve = conclude_tokens(BUDGETS, at_first, replicates=REPLICATES, seed=number)
        table = curve.levels
        held["change"].append(covers(table["change_low"], changes, table["change_high"])[1:].mean())
        held["change_band"].append(covers(table["change_band_low"], changes, table["change_band_high"]).all())
        held["critical"].append(curve.critical_low <= critical <= curve.critical_high)
        found = conclude_interaction(BUDGETS, at_first, at_last, REPLICATES, seed=number)
        table = found.levels
        held["recovered"].append(covers(table["low"], recovered, table["high"]).mean())
        held["recovered_band"].append(covers(table["band_low"], recovered, table["band_high"]).all())
        held["rejected"].append(found.p <= 0.05)
    return Covered(**{key: float(np.mean(values)) for key, values in held.items()})


INTERVALS = ["change", "recovered"]
BANDS = ["change_band", "recovered_band"]


@pytest.mark.parametrize("interval", INTERVALS + BANDS)
def test_intervals_cover_in_95_of_100_samples(interval: str) -> None:
    runs = [(getattr(simulate(name, n, count), interval), count) for name in QUICK for n, count in QUICK[name].items()]
    shares, weights = zip(*runs, strict=True)
    assert 0.92 <= np.average(shares, weights=weights) <= 0.98


@pytest.mark.parametrize("name", QUICK)
def test_the_critical_budget_is_inside_its_interval(name: str) -> None:
    assert min(simulate(name, n, count).critical for n, count in QUICK[name].items()) >= 0.93


def test_the_joint_test_rejects_equal_gains_in_five_of_a_hundred() -> None:
    rejected = [
        conclude_interaction(BUDGETS, *np.split(correct, 2, axis=-1), REPLICATES, seed=number).p <= 0.05
        for number, correct in enumerate(draws("equal gains", 300, 200))
    ]
    assert 0.02 <= np.mean(rejected) <= 0.08


def test_the_joint_test_finds_a_recovery() -> None:
    assert simulate("recovers", 3000, QUICK["recovers"][3000]).rejected > 0.8


@pytest.mark.parametrize("seed_sd", [0.0, 0.1])
def test_with_seeds_intervals_err_to_the_wide_side(seed_sd: float) -> None:
    covered = simulate("equal gains", 400, 30, seed_sd)
    assert min(getattr(covered, interval) for interval in INTERVALS) >= 0.94
    assert min(getattr(covered, band) for band in BANDS) >= 0.9
    assert covered.critical >= 0.93
    assert covered.rejected <= 0.07


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("n", [300, 3000])
@pytest.mark.parametrize("name", LAST)
def test_coverage_at_full_size(name: str, n: int) -> None:
    covered = simulate(name, n, 1000)
    for interval in INTERVALS + BANDS:
        assert 0.93 <= getattr(covered, interval) <= 0.98, interval
    assert covered.critical >= 0.93
    assert name == "recovers" or 0.03 <= covered.rejected <= 0.07
