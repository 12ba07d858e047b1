"""Curve models: constant, linear or broken-stick in log2 of the scale, or a power law with an asymptote; by AICc."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from semscale.analysis.answer_patterns import CorrectnessPatterns, Float64

RATES = np.geomspace(0.1, 8.0, 80)
"""Grid of exponents c of the power law; smaller ones cannot be distinguished from a line in log2 s."""

_INFEASIBLE = 1e100  # not infinite, so that the search can still subtract


@dataclass(frozen=True)
class CurveModelFits:
    """The models fitted to a curve.

    Attributes:
        best: the form of the model with the smallest AICc: "flat", "linear", "power" or "broken-stick".
        asymptote: a of `a - b s^-c`, the accuracy at which the power law levels off, with its 95 % interval from fits
            to the replicates; None where none is from 0 to 1 (of the interval: in over a tenth of the replicates).
        table: a row per model with at least one residual degree of freedom: form, parameters (dict), chi2, aicc,
            weight (Akaike weight), sorted by aicc.
    """

    best: str
    asymptote: float | None
    asymptote_low: float | None
    asymptote_high: float | None
    table: pd.DataFrame


@dataclass(frozen=True)
class _Fit:
    names: tuple[str, ...]
    values: tuple[float, ...]
    chi2: float


def fit_curve_models(scales: Sequence[int], patterns: CorrectnessPatterns, curves: Float64) -> CurveModelFits:
    """Fit flat, linear, power and broken-stick models by generalised least squares and compare them by AICc.

    The models, with x = log2 s: a;  a + b x;  a - b s^-c;  a + b x + d max(0, x - k), k a knot inside the ladder. Steps
    share their images, so residuals are weighted by the inverse covariance of the curve (of the replicates, plus
    2 / (n + 2)^2 on the diagonal, one image gained and one lost). AICc = chi2 / v + 2 K + 2 K (K + 1) / (S - K - 1)
    with K parameters (C. M. Hurvich and C.-L. Tsai, Biometrika 76 (1989), 297-307); v = max(1, chi2 / (S - 4)) of the
    broken stick, if there are 6 steps, is the overdispersion, which sampling of images does not explain, because each
    step adds other texts (quasi-AICc: K. P. Burnham and D. R. Anderson, "Model Selection and Multimodel Inference",
    2002, section 2.5).

    `curves` are the float64[B, S] of :func:`semscale.analysis.bootstrap.resample`.

    >>> from semscale.analysis.bootstrap import resample
    >>> from semscale.analysis.answer_patterns import count_patterns
    >>> scales = np.arange(1, 13)
    >>> patterns = count_patterns(np.arange(50_000)[:, None] < np.round(50_000 * (0.8 - 0.1 / scales)))
    >>> models = fit_curve_models(scales, patterns, resample(patterns))
    >>> models.best, round(models.asymptote, 3)
    ('power', 0.8)
    """
    s = np.asarray(scales, np.float64)
    x = np.log2(s)
    steps, n = len(s), patterns.n_images
    noise = np.atleast_2d(np.cov(curves, rowvar=False)) + np.eye(steps) * 2 / (n + 2) ** 2
    whiten = np.linalg.inv(np.linalg.cholesky(noise))
    target = patterns.accuracy()
    ones = np.ones(steps)

    def solve(columns: Sequence[Float64]) -> tuple[tuple[float, ...], float]:
        design = whiten @ np.column_stack(columns)
        coefficients = np.linalg.lstsq(design, whiten @ target, rcond=None)[0]
        return tuple(map(float, coefficients)), float(((whiten @ target - design @ coefficients) ** 2).sum())

    fits: dict[str, _Fit] = {"flat": _Fit(("a",), *solve([ones]))}
    if steps > 3:
        fits["linear"] = _Fit(("a", "b"), *solve([ones, x]))
    asymptotes = np.full(len(curves), np.nan)
    if steps > 4 and (power := _fit_power(s, solve)):
        fits["power"] = power
        asymptotes = _asymptotes(s, whiten, curves)
    if steps > 5:
        fits["broken-stick"] = _fit_stick(x, solve)
    table = _compare(fits, steps)
    finite = asymptotes[~np.isnan(asymptotes)]
    low, high = np.quantile(finite, [0.025, 0.975]).tolist() if len(finite) >= 0.9 * len(asymptotes) else (None, None)
    asymptote = fits["power"].values[0] if "power" in fits else None
    return CurveModelFits(str(table["form"].iloc[0]), asymptote, low, high, table)


_Solve = Callable[[Sequence[Float64]], tuple[tuple[float, ...], float]]


def _fit_power(s: Float64, solve: _Solve) -> _Fit | None:
    """Fit a - b s^-c: linear in s^-c for every c, so only c is searched."""
    ones = np.ones(len(s))

    def chi2(c: float) -> float:
        (a, _), value = solve([ones, -(s**-c)])
        return value if 0 <= a <= 1 else _INFEASIBLE

    on_grid = np.array([chi2(c) for c in RATES])
    if on_grid.min() == _INFEASIBLE:
        return None
    rate = _refine(chi2, RATES, on_grid)
    (a, b), value = solve([ones, -(s**-rate)])
    return _Fit(("a", "b", "c"), (a, b, rate), value)


def _fit_stick(x: Float64, solve: _Solve) -> _Fit:
    ones = np.ones(len(x))
    knots = np.linspace(x[1], x[-2], 41)

    def columns(knot: float) -> list[Float64]:
        return [ones, x, np.maximum(0.0, x - knot)]

    on_grid = np.array([solve(columns(knot))[1] for knot in knots])
    knot = _refine(lambda value: solve(columns(value))[1], knots, on_grid)
    (a, b, d), value = solve(columns(knot))
    return _Fit(("a", "b", "d", "k"), (a, b, d, knot), value)


def _refine(function: Callable[[float], float], grid: Float64, on_grid: Float64) -> float:
    """Return the minimiser of the function, searched between the neighbours of the best grid point."""
    best = int(on_grid.argmin())
    bounds = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, len(grid) - 1)])
    result = minimize_scalar(function, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(result.x) if result.fun < on_grid[best] else float(grid[best])


def _asymptotes(s: Float64, whiten: Float64, curves: Float64) -> Float64:
    """Return a of the power law fitted to each replicate, float64[B]; nan where none is from 0 to 1."""
    targets = curves @ whiten.T
    best = np.full(len(curves), np.inf)
    asymptotes = np.full(len(curves), np.nan)
    for c in RATES:
        design = whiten @ np.column_stack([np.ones(len(s)), -(s**-c)])
        coefficients = targets @ np.linalg.pinv(design).T
        chi2 = ((targets - coefficients @ design.T) ** 2).sum(axis=1)
        better = (chi2 < best) & (coefficients[:, 0] >= 0) & (coefficients[:, 0] <= 1)
        best[better], asymptotes[better] = chi2[better], coefficients[better, 0]
    return asymptotes


def _compare(fits: dict[str, _Fit], steps: int) -> pd.DataFrame:
    stick = fits.get("broken-stick")
    overdispersion = max(1.0, stick.chi2 / (steps - 4)) if stick else 1.0
    rows = []
    for form, fit in fits.items():
        k = len(fit.values)
        residual = steps - k - 1
        aicc = fit.chi2 / overdispersion + 2 * k + (2 * k * (k + 1) / residual if residual > 0 else 0.0)
        parameters = dict(zip(fit.names, fit.values, strict=True))
        rows.append({"form": form, "parameters": parameters, "chi2": fit.chi2, "aicc": aicc})
    table = pd.DataFrame(rows).sort_values("aicc", kind="stable", ignore_index=True)
    likelihoods = np.exp(-0.5 * (table["aicc"] - table["aicc"].min()))
    return table.assign(weight=likelihoods / likelihoods.sum())
