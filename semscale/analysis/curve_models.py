"""Curve models: flat, straight or broken in log2 of the scale, or levelling off at an asymptote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from semscale.analysis.answer_patterns import Float64, Patterns

RATES = np.geomspace(0.1, 8.0, 80)
"""Exponents c of the power law that are tried; slower ones cannot be told from a line in log2 s."""

_IMPOSSIBLE = 1e100  # not infinite, so that the search can still subtract


@dataclass(frozen=True)
class Shapes:
    """The forms fitted to a curve.

    Attributes:
        best: the form with the smallest AICc: "flat", "linear", "power" or "broken-stick".
        asymptote: a of `a - b s^-c`, the accuracy that the power law levels off at, with its 95 % interval from fits
            to the replicates; None where there is none from 0 to 1 (of the interval: in over a tenth of them).
        table: a row per form with at least one degree of freedom left: form, parameters (dict), chi2, aicc,
            weight (Akaike weight), in order of aicc.
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


def fit_shapes(scales: Sequence[int], patterns: Patterns, curves: Float64) -> Shapes:
    """Fit flat, linear, power and broken-stick forms by generalised least squares and compare them by AICc.

    The forms, with x = log2 s: a;  a + b x;  a - b s^-c;  a + b x + d max(0, x - k), k a knot inside the
    ladder. Steps share their images, so residuals are weighed by the inverse covariance of the curve (of the
    replicates, and 2 / (n + 2)^2 on the diagonal, one image gained and one lost). AICc = chi2 / v + 2 K +
    2 K (K + 1) / (S - K - 1) with K parameters (C. M. Hurvich and C.-L. Tsai, Biometrika 76 (1989), 297-307);
    v = max(1, chi2 / (S - 4)) of the broken stick, if there are 6 steps, is the part of the scatter that
    images do not explain, because each step brings texts of its own (quasi-AICc: K. P. Burnham and D. R.
    Anderson, "Model Selection and Multimodel Inference", 2002, section 2.5).

    `curves` are the float64[B, S] of :func:`semscale.analysis.bootstrap.resample`.

    >>> from semscale.analysis.bootstrap import resample
    >>> from semscale.analysis.answer_patterns import count_patterns
    >>> scales = np.arange(1, 13)
    >>> patterns = count_patterns(np.arange(50_000)[:, None] < np.round(50_000 * (0.8 - 0.1 / scales)))
    >>> shapes = fit_shapes(scales, patterns, resample(patterns))
    >>> shapes.best, round(shapes.asymptote, 3)
    ('power', 0.8)
    """
    s = np.asarray(scales, np.float64)
    x = np.log2(s)
    steps, n = len(s), patterns.n_images
    noise = np.atleast_2d(np.cov(curves, rowvar=False)) + np.eye(steps) * 2 / (n + 2) ** 2
    whiten = np.linalg.inv(np.linalg.cholesky(noise))
    target = patterns.accuracy()
    one = np.ones(steps)

    def solve(columns: Sequence[Float64]) -> tuple[tuple[float, ...], float]:
        design = whiten @ np.column_stack(columns)
        answer = np.linalg.lstsq(design, whiten @ target, rcond=None)[0]
        return tuple(map(float, answer)), float(((whiten @ target - design @ answer) ** 2).sum())

    fits: dict[str, _Fit] = {"flat": _Fit(("a",), *solve([one]))}
    if steps > 3:
        fits["linear"] = _Fit(("a", "b"), *solve([one, x]))
    asymptotes = np.full(len(curves), np.nan)
    if steps > 4 and (power := _fit_power(s, solve)):
        fits["power"] = power
        asymptotes = _asymptotes(s, whiten, curves)
    if steps > 5:
        fits["broken-stick"] = _fit_stick(x, solve)
    table = _compare(fits, steps)
    known = asymptotes[~np.isnan(asymptotes)]
    low, high = np.quantile(known, [0.025, 0.975]).tolist() if len(known) >= 0.9 * len(asymptotes) else (None, None)
    asymptote = fits["power"].values[0] if "power" in fits else None
    return Shapes(str(table["form"].iloc[0]), asymptote, low, high, table)


_Solve = Callable[[Sequence[Float64]], tuple[tuple[float, ...], float]]


def _fit_power(s: Float64, solve: _Solve) -> _Fit | None:
    """Fit a - b s^-c: a line in s^-c for every c, so only c has to be searched."""
    one = np.ones(len(s))

    def chi2(c: float) -> float:
        (a, _), value = solve([one, -(s**-c)])
        return value if 0 <= a <= 1 else _IMPOSSIBLE

    tried = np.array([chi2(c) for c in RATES])
    if tried.min() == _IMPOSSIBLE:
        return None
    rate = _refine(chi2, RATES, tried)
    (a, b), value = solve([one, -(s**-rate)])
    return _Fit(("a", "b", "c"), (a, b, rate), value)


def _fit_stick(x: Float64, solve: _Solve) -> _Fit:
    one = np.ones(len(x))
    knots = np.linspace(x[1], x[-2], 41)

    def columns(knot: float) -> list[Float64]:
        return [one, x, np.maximum(0.0, x - knot)]

    tried = np.array([solve(columns(knot))[1] for knot in knots])
    knot = _refine(lambda value: solve(columns(value))[1], knots, tried)
    (a, b, d), value = solve(columns(knot))
    return _Fit(("a", "b", "d", "k"), (a, b, d, knot), value)


def _refine(function: Callable[[float], float], grid: Float64, tried: Float64) -> float:
    """Return where the function is smallest, searched between the neighbours of the grid's best point."""
    best = int(tried.argmin())
    bounds = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, len(grid) - 1)])
    found = minimize_scalar(function, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(found.x) if found.fun < tried[best] else float(grid[best])


def _asymptotes(s: Float64, whiten: Float64, curves: Float64) -> Float64:
    """Return a of the power law fitted to each replicate, float64[B]; nan where none is from 0 to 1."""
    targets = curves @ whiten.T
    best = np.full(len(curves), np.inf)
    found = np.full(len(curves), np.nan)
    for c in RATES:
        design = whiten @ np.column_stack([np.ones(len(s)), -(s**-c)])
        answer = targets @ np.linalg.pinv(design).T
        chi2 = ((targets - answer @ design.T) ** 2).sum(axis=1)
        better = (chi2 < best) & (answer[:, 0] >= 0) & (answer[:, 0] <= 1)
        best[better], found[better] = chi2[better], answer[better, 0]
    return found


def _compare(fits: dict[str, _Fit], steps: int) -> pd.DataFrame:
    stick = fits.get("broken-stick")
    scatter = max(1.0, stick.chi2 / (steps - 4)) if stick else 1.0
    rows = []
    for form, fit in fits.items():
        k = len(fit.values)
        room = steps - k - 1
        aicc = fit.chi2 / scatter + 2 * k + (2 * k * (k + 1) / room if room > 0 else 0.0)
        parameters = dict(zip(fit.names, fit.values, strict=True))
        rows.append({"form": form, "parameters": parameters, "chi2": fit.chi2, "aicc": aicc})
    table = pd.DataFrame(rows).sort_values("aicc", kind="stable", ignore_index=True)
    odds = np.exp(-0.5 * (table["aicc"] - table["aicc"].min()))
    return table.assign(weight=odds / odds.sum())
