"""Curve models: against curve_fit, and on curves of a known form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import curve_fit

from semscale.analysis.answer_patterns import CorrectnessPatterns, count_patterns
from semscale.analysis.bootstrap import resample
from semscale.analysis.curve_models import CurveModelFits, fit_curve_models

SCALES = np.arange(1, 13)


def fitted(
    accuracies: np.ndarray, n: int = 20_000, seed: int = 0
) -> tuple[CurveModelFits, CorrectnessPatterns, np.ndarray]:
    rng = np.random.default_rng(seed)
    right = np.arange(n)[:, None] < np.round(n * accuracies)
    correct = right ^ (rng.random(right.shape) < 0.02)
    patterns = count_patterns(correct)
    curves = resample(patterns, 1000)
    return fit_curve_models(SCALES, patterns, curves), patterns, curves


@pytest.mark.parametrize(
    ("accuracies", "best"),
    [
        (np.full(12, 0.7), "flat"),
        (0.6 + 0.03 * np.log2(SCALES), "linear"),
        (0.75 - 0.1 * SCALES**-1.5, "power"),
        (0.6 + 0.05 * np.minimum(np.log2(SCALES), 2) - 0.02 * np.maximum(np.log2(SCALES) - 2, 0), "broken-stick"),
    ],
)
def test_a_curve_of_each_form_is_identified_in_most_samples(accuracies: np.ndarray, best: str) -> None:
    samples = [fitted(accuracies, seed=seed)[0] for seed in range(9)]
    assert [models.best for models in samples].count(best) >= 6
    models = samples[0]
    assert models.best == models.table["form"][0]
    assert models.table["weight"].sum() == pytest.approx(1)
    assert models.table["aicc"].is_monotonic_increasing


def test_the_power_law_is_that_of_curve_fit() -> None:
    models, patterns, curves = fitted(0.75 - 0.1 * SCALES**-1.5)
    n = patterns.n_images
    noise = np.cov(curves, rowvar=False) + np.eye(12) * 2 / (n + 2) ** 2
    expected, _ = curve_fit(
        lambda s, a, b, c: a - b * s**-c, SCALES.astype(float), patterns.accuracy(), p0=(0.7, 0.1, 1), sigma=noise
    )
    power = models.table.set_index("form")["parameters"]["power"]
    assert list(power.values()) == pytest.approx(expected.tolist(), abs=1e-5)
    assert models.asymptote == power["a"]
    # predictions flip with 2 %, so the curve is shrunk towards one half
    assert models.asymptote_low < 0.75 * 0.98 + 0.25 * 0.02 < models.asymptote_high
    assert models.asymptote_high - models.asymptote_low < 0.02


def test_aicc_of_the_flat_form_by_hand() -> None:
    models, patterns, curves = fitted(np.full(12, 0.7), n=3000)
    weights = np.linalg.inv(np.cov(curves, rowvar=False) + np.eye(12) * 2 / 3002**2)
    level = weights.sum(axis=0) @ patterns.accuracy() / weights.sum()
    residuals = patterns.accuracy() - level
    flat = models.table.set_index("form").loc["flat"]
    stick = models.table.set_index("form").loc["broken-stick"]
    assert flat["parameters"]["a"] == pytest.approx(level, rel=1e-9)
    assert flat["chi2"] == pytest.approx(residuals @ weights @ residuals, rel=1e-9)
    assert flat["aicc"] == pytest.approx(flat["chi2"] / max(1, stick["chi2"] / 8) + 2 + 4 / 10, rel=1e-9)


@pytest.mark.parametrize(("steps", "forms"), [(1, 1), (3, 1), (4, 2), (5, 3), (6, 4)])
def test_short_ladders_get_the_models_with_residual_degrees_of_freedom(steps: int, forms: int) -> None:
    patterns = count_patterns(np.arange(1000)[:, None] < 1000 * (0.8 - 0.1 / SCALES[:steps]))
    models = fit_curve_models(SCALES[:steps], patterns, resample(patterns, 200))
    assert len(models.table) == forms
    assert (models.asymptote is not None) == (steps > 4)


def test_a_curve_that_does_not_level_off_has_no_asymptote() -> None:
    models, _, _ = fitted(0.3 + 0.18 * np.log2(SCALES))
    assert models.asymptote is None or models.best != "power"
    assert models.asymptote_low is None or models.asymptote_high > 0.9
