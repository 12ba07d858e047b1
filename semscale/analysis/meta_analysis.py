"""Random-effects meta-analysis over datasets: the mean change of accuracy at every scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import ndtri, stdtrit

from semscale.analysis.intervals import Float64


@dataclass(frozen=True)
class RandomEffects:
    """Mean effect over k datasets, its standard error and 95 % interval, tau2 between datasets and Cochran's q."""

    mean: float
    error: float
    low: float
    high: float
    tau2: float
    q: float
    k: int


def random_effects(effects: ArrayLike, variances: ArrayLike) -> RandomEffects:
    """Return the random-effects mean of the effects of k datasets.

    tau2 by R. C. Paule and J. Mandel, Journal of Research of the NBS 87 (1982), 377-385 (the tau2 at which the
    generalised Q equals k - 1); mean with weights 1 / (variance + tau2). The interval is Hartung and Knapp's with k - 1
    degrees of freedom (Statistics in Medicine 20 (2001), 3875-3889), never narrower than the error of the weights. One
    dataset keeps its error.

    Args:
        effects: float[k].
        variances: float[k], squared standard errors, positive.

    Raises:
        ValueError: no dataset, different shapes, or a variance that is not positive.

    >>> effect = random_effects([0.02, 0.04, 0.01], [1e-4, 1e-4, 1e-4])
    >>> round(effect.mean, 4), round(effect.tau2, 6), round(effect.error, 5)
    (0.0233, 0.000133, 0.00882)
    """
    y, v = np.asarray(effects, np.float64), np.asarray(variances, np.float64)
    if y.ndim != 1 or not y.size or y.shape != v.shape or not (v > 0).all():
        raise ValueError(f"expected effects with positive variances, but got {list(y.shape)} and {list(v.shape)}")
    k = len(y)
    q = _generalised_q(y, v, 0.0)
    tau2 = 0.0
    if q > k - 1:
        w = 1 / v
        upper = (q - (k - 1)) / float(w.sum() - (w**2).sum() / w.sum())
        while _generalised_q(y, v, upper) > k - 1:
            upper *= 2
        tau2 = float(brentq(lambda value: _generalised_q(y, v, value) - (k - 1), 0.0, upper, xtol=1e-18, rtol=1e-12))
    w = 1 / (v + tau2)
    mean = float((w * y).sum() / w.sum())
    error = float(np.sqrt(1 / w.sum()))
    quantile = float(ndtri(0.975))
    if k > 1:
        error = max(error, float(np.sqrt((w * (y - mean) ** 2).sum() / ((k - 1) * w.sum()))))
        quantile = float(stdtrit(k - 1, 0.975))
    return RandomEffects(mean, error, mean - quantile * error, mean + quantile * error, tau2, q, k)


def summarise_datasets(steps: pd.DataFrame) -> pd.DataFrame:
    """Return the mean change from scale 1 over datasets, a row per scale after a dataset's first.

    Args:
        steps: the concatenated step tables (:func:`semscale.analysis.curve.step_table`) of all datasets: dataset,
            scale, change, change_low, change_high (95 %).

    Returns:
        Columns scale, n_datasets, mean_change, low, high (95 %), tau (standard deviation of the true changes
        between datasets), rising and falling (shares of the datasets whose interval is above, below 0).
    """
    rows = []
    for scale, group in steps[steps["scale"] > steps.groupby("dataset")["scale"].transform("min")].groupby("scale"):
        error = (group["change_high"] - group["change_low"]) / (2 * float(ndtri(0.975)))
        effect = random_effects(group["change"], error**2)
        shares = float((group["change_low"] > 0).mean()), float((group["change_high"] < 0).mean())
        rows.append((scale, effect.k, effect.mean, effect.low, effect.high, float(np.sqrt(effect.tau2)), *shares))
    columns = ["scale", "n_datasets", "mean_change", "low", "high", "tau", "rising", "falling"]
    return pd.DataFrame(rows, columns=columns)


def _generalised_q(y: Float64, v: Float64, tau2: float) -> float:
    w = 1 / (v + tau2)
    return float((w * (y - (w * y).sum() / w.sum()) ** 2).sum())
