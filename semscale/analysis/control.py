"""Meaning against count: an arm and its control with the same number of categories, on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from semscale.analysis.bootstrap import REPLICATES, resample_pair
from semscale.analysis.paired import adjusted_change, holm, mcnemar_p
from semscale.analysis.patterns import Bool


@dataclass(frozen=True)
class Comparison:
    """What an arm does beyond its control.

    Attributes:
        difference, low, high: accuracy of the arm less accuracy of the control, the mean over all steps after
            the first (which is the class names alone in both), with its 95 % interval.
        p: two-sided, of that mean.
        steps: a row per step: scale, difference, low, high (95 %, each step alone), band_low, band_high
            (95 %, all steps at once), gained (answers right in the arm only), lost (right in the control
            only), p and p_holm. `gained` and `lost` are None with several orders.
    """

    difference: float
    low: float
    high: float
    p: float
    steps: pd.DataFrame


def compare_with_control(
    scales: Sequence[int], arm: Bool, control: Bool, replicates: int = REPLICATES, seed: int = 0
) -> Comparison:
    """Return the paired difference of an arm to its control at equal counts.

    With one order in both arms the interval of a step is Bonett and Price's and its p exact McNemar; with
    more, both come from the two-way replicates (the same images for both arms, each arm its own orders).

    Args:
        scales: the S scales.
        arm, control: bool[n, S] or bool[O, n, S]; the same images in the same order.
        replicates, seed: of the bootstrap.

    Raises:
        ValueError: when the arms differ in images or steps, or have not one step per scale.

    >>> names = np.arange(1000) < 600
    >>> arm = np.stack([names, np.arange(1000) < 640], axis=1)
    >>> control = np.stack([names, np.arange(1000) < 610], axis=1)
    >>> found = compare_with_control([1, 2], arm, control)
    >>> round(found.difference, 6), found.steps["gained"].tolist(), found.low > 0
    (0.03, [0, 30], True)
    """
    first, second = (marks[None] if marks.ndim == 2 else marks for marks in map(np.asarray, (arm, control)))
    if first.shape[1:] != second.shape[1:] or first.shape[2] != len(scales):
        raise ValueError(
            f"expected arms on the same images with {len(scales)} steps, "
            f"but got {list(first.shape[1:])} and {list(second.shape[1:])}"
        )
    n, steps = first.shape[1:]
    difference = first.mean(axis=(0, 1)) - second.mean(axis=(0, 1))
    curves = np.subtract(*resample_pair(first, second, replicates, seed))
    single = len(first) == len(second) == 1
    gained = lost = None
    if single:
        gained, lost = (first & ~second)[0].sum(axis=0), (second & ~first)[0].sum(axis=0)
        discordant = (gained + lost).astype(np.float64)
    else:
        discordant = curves.var(axis=0) * n * n + n * difference**2
    centre, error = adjusted_change(n * difference, discordant, n)
    z = float(ndtri(0.975))
    reach = float(np.quantile((np.abs(curves - difference) / error).max(axis=1), 0.95))
    p = mcnemar_p(gained, lost) if gained is not None and lost is not None else 2 * ndtr(-np.abs(centre) / error)
    table = pd.DataFrame(
        {
            "scale": [int(scale) for scale in scales],
            "difference": difference,
            "low": centre - z * error,
            "high": centre + z * error,
            "band_low": centre - reach * error,
            "band_high": centre + reach * error,
            "gained": gained,
            "lost": lost,
            "p": p,
            "p_holm": holm(p),
        }
    )
    after = slice(1, None) if steps > 1 else slice(None)
    mean = float(difference[after].mean())
    spread = float(np.hypot(curves[:, after].mean(axis=1).std(), np.sqrt(2) / (n + 2)))
    return Comparison(mean, mean - z * spread, mean + z * spread, float(2 * ndtr(-abs(mean) / spread)), table)
