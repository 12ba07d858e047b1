"""Coverage by simulation on curves with a known truth: intervals cover at their nominal rate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from populations import CURVES, samples, true_critical_scale

from semscale.analysis import MARGIN
from semscale.analysis.bootstrap import resample
from semscale.analysis.contrasts import classify_trend, contrasts, critical_scale
from semscale.analysis.curve import step_table

REPLICATES = 300
QUICK = {500: 120, 20_000: 40}
FULL = {500: 2000, 2000: 2000, 5000: 1000, 20_000: 1000}


@dataclass(frozen=True)
class Covered:
    """Shares of samples in which an interval covered the truth; pooled over steps for pointwise intervals."""

    accuracy: float
    accuracy_band: float
    resampled: float
    change: float
    change_band: float
    pairs_band: float
    critical: float
    trends: dict[str, int]


def inside(low: ArrayLike, value: ArrayLike, high: ArrayLike) -> NDArray[np.bool_]:
    # the change of the first step against itself is 0 with no width, up to rounding
    return (np.asarray(low) <= np.asarray(value) + 1e-12) & (np.asarray(value) <= np.asarray(high) + 1e-12)


@cache
def simulate(name: str, n: int, count: int) -> Covered:
    truth = CURVES[name]
    scales = range(1, len(truth) + 1)
    true = np.array(truth)
    critical = true_critical_scale(truth, MARGIN)
    held: dict[str, list[float]] = {key: [] for key in Covered.__annotations__}
    trends: dict[str, int] = {}
    for number, patterns in enumerate(samples(truth, n, count)):
        curves = resample(patterns, REPLICATES, seed=number)
        pairwise = contrasts(patterns, curves)
        table = step_table(scales, patterns, curves, pairwise)
        changes = true - true[0]
        held["accuracy"].append(inside(table["ci_low"], true, table["ci_high"]).mean())
        held["accuracy_band"].append(inside(table["band_low"], true, table["band_high"]).all())
        held["change"].append(inside(table["change_low"], changes, table["change_high"])[1:].mean())
        held["change_band"].append(inside(table["change_band_low"], changes, table["change_band_high"]).all())
        low, high = np.quantile(curves - curves[:, :1], [0.025, 0.975], axis=0)
        held["resampled"].append(inside(low, changes, high)[1:].mean())
        low, high = pairwise.band()
        held["pairs_band"].append(inside(low, true[None, :] - true[:, None], high).all())
        estimate = critical_scale(scales, pairwise)
        held["critical"].append(estimate.low <= critical <= estimate.high)
        trend = classify_trend(pairwise)
        trends[trend] = trends.get(trend, 0) + 1
    shares = {key: float(np.mean(values)) for key, values in held.items() if key != "trends"}
    return Covered(trends=trends, **shares)


POINTWISE = ["accuracy", "change", "resampled"]
SIMULTANEOUS = ["accuracy_band", "change_band", "pairs_band"]


@pytest.mark.parametrize("interval", POINTWISE + SIMULTANEOUS)
def test_intervals_cover_in_95_of_100_samples(interval: str) -> None:
    runs = [(getattr(simulate(name, n, count), interval), count) for name in CURVES for n, count in QUICK.items()]
    shares, weights = zip(*runs, strict=True)
    assert 0.93 <= np.average(shares, weights=weights) <= 0.97


@pytest.mark.parametrize("n", QUICK)
@pytest.mark.parametrize("name", CURVES)
def test_the_critical_scale_is_inside_its_interval(name: str, n: int) -> None:
    assert simulate(name, n, QUICK[n]).critical >= 0.93


@pytest.mark.parametrize("n", QUICK)
def test_a_flat_curve_is_classified_as_flat(n: int) -> None:
    assert simulate("flat", n, QUICK[n]).trends["flat"] > 0.95 * QUICK[n]


@pytest.mark.parametrize(
    ("name", "trend"), [("plus two, then plateau", "rise-plateau"), ("rise, then fall", "rise-decline")]
)
def test_with_many_images_a_curve_gets_its_trend(name: str, trend: str) -> None:
    assert simulate(name, 20_000, QUICK[20_000]).trends[trend] > 0.9 * QUICK[20_000]


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("n", FULL)
@pytest.mark.parametrize("name", CURVES)
def test_coverage_at_full_size(name: str, n: int) -> None:
    covered = simulate(name, n, FULL[n])
    for interval in POINTWISE + SIMULTANEOUS:
        assert 0.93 <= getattr(covered, interval) <= 0.97, interval
    assert covered.critical >= 0.93
    if name == "flat":
        assert covered.trends["flat"] > 0.95 * FULL[n]
