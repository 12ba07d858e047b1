"""Paired comparisons: a strategy against its control at equal counts, and marginal effects of single categories."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from semscale.analysis.answer_patterns import Bool
from semscale.analysis.bootstrap import REPLICATES, resample_pair
from semscale.analysis.intervals import adjusted_change, holm, mcnemar_p


@dataclass(frozen=True)
class PairedComparison:
    """Paired difference between an arm and its control.

    Attributes:
        difference, low, high: accuracy of the arm less accuracy of the control, the mean over all steps after
            the first (which is the class names alone in both), with its 95 % interval.
        p: two-sided, of that mean.
        steps: a row per step: scale, difference, low, high (95 %, pointwise), band_low, band_high (95 %, simultaneous),
            gained (images correct in the arm only), lost (in the control only), p and p_holm. `gained` and `lost` are
            None with several orders.
    """

    difference: float
    low: float
    high: float
    p: float
    steps: pd.DataFrame

    def table(self) -> pd.DataFrame:
        """Return a row without a scale, which holds the mean, followed by the rows of the steps."""
        mean = {"scale": None, "difference": self.difference, "low": self.low, "high": self.high, "p": self.p}
        return pd.concat([pd.DataFrame([mean]).astype({"scale": "Int64"}), self.steps.astype({"scale": "Int64"})])


def compare_with_control(
    scales: Sequence[int], arm: Bool, control: Bool, replicates: int = REPLICATES, seed: int = 0
) -> PairedComparison:
    """Return the paired difference between an arm and its control at equal counts.

    With one order in both arms the interval of a step is Bonett and Price's and its p is McNemar's exact one; with
    more, both come from the two-way replicates (the same images for both arms, separate orders for each), so that for
    two aggregations of the same orders the intervals are conservative.

    Args:
        scales: the S scales.
        arm, control: correctness, bool[n, S] or bool[O, n, S]; the same images in the same sequence.
        replicates, seed: of the bootstrap.

    Raises:
        ValueError: the arms differ in images or steps, or do not have one step per scale.

    >>> names = np.arange(1000) < 600
    >>> arm = np.stack([names, np.arange(1000) < 640], axis=1)
    >>> control = np.stack([names, np.arange(1000) < 610], axis=1)
    >>> comparison = compare_with_control([1, 2], arm, control)
    >>> round(comparison.difference, 6), comparison.steps["gained"].tolist(), comparison.low > 0
    (0.03, [0, 30], True)
    """
    first, second = (rows[None] if rows.ndim == 2 else rows for rows in map(np.asarray, (arm, control)))
    if first.shape[1:] != second.shape[1:] or first.shape[2] != len(scales):
        raise ValueError(
            f"expected arms on the same images with {len(scales)} steps, "
            f"but got {list(first.shape[1:])} and {list(second.shape[1:])}"
        )
    n, steps = first.shape[1:]
    difference = first.mean(axis=(0, 1)) - second.mean(axis=(0, 1))
    curves = np.subtract(*resample_pair(first, second, replicates, seed))
    gained = lost = None
    if len(first) == len(second) == 1:
        gained, lost = (first & ~second)[0].sum(axis=0), (second & ~first)[0].sum(axis=0)
        discordant = (gained + lost).astype(np.float64)
    else:
        discordant = curves.var(axis=0) * n * n + n * difference**2
    centre, error = adjusted_change(n * difference, discordant, n)
    z = float(ndtri(0.975))
    sup_t = float(np.quantile((np.abs(curves - difference) / error).max(axis=1), 0.95))
    p = mcnemar_p(gained, lost) if gained is not None and lost is not None else 2 * ndtr(-np.abs(centre) / error)
    table = pd.DataFrame(
        {
            "scale": [int(scale) for scale in scales],
            "difference": difference,
            "low": centre - z * error,
            "high": centre + z * error,
            "band_low": centre - sup_t * error,
            "band_high": centre + sup_t * error,
            "gained": gained,
            "lost": lost,
            "p": p,
            "p_holm": holm(p),
        }
    )
    after = slice(1, None) if steps > 1 else slice(None)
    mean = float(difference[after].mean())
    mean_error = float(np.hypot(curves[:, after].mean(axis=1).std(), np.sqrt(2) / (n + 2)))
    low, high = mean - z * mean_error, mean + z * mean_error
    return PairedComparison(mean, low, high, float(2 * ndtr(-abs(mean) / mean_error)), table)


def addition_effects(correct: Bool, added: Sequence[Sequence[str]]) -> pd.DataFrame:
    """Return the marginal effect of each added category, averaged over orders.

    In one order a category is confounded with its step; in several orders the same category is added at different
    steps, after different categories. Its effect is the mean over orders of the accuracy with it less the accuracy just
    before.

    Args:
        correct: bool[O, n, S], the same images in every order.
        added: for each of the O orders a name of what each of the S steps adds; the first step has no predecessor and
            so no effect.

    Returns:
        A row per name: added, n_orders, effect, low, high (95 %, paired over images, for these orders),
        smallest and largest effect in one order; the largest effect first.

    Raises:
        ValueError: the shapes do not match.

    >>> correct = np.arange(100)[:, None] < np.array([[[60, 70, 71]], [[60, 61, 71]]])
    >>> table = addition_effects(correct, [["c", "cs", "large c"], ["c", "large c", "cs"]])
    >>> table[["added", "effect"]].round(3).to_dict("list")
    {'added': ['cs', 'large c'], 'effect': [0.1, 0.01]}
    """
    rows = np.asarray(correct, dtype=np.bool_)
    if rows.ndim != 3 or len(added) != len(rows) or any(len(names) != rows.shape[2] for names in added):
        raise ValueError(f"expected a name for every order and step of correct, but got {list(rows.shape)}")
    n = rows.shape[1]
    changes = np.diff(rows.astype(np.int8), axis=2)
    additions: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for order, names in enumerate(added):
        for step, name in enumerate(names[1:]):
            additions[name].append((order, step))
    z = float(ndtri(0.975))
    effects = []
    for name, cells in additions.items():
        columns = np.stack([changes[order, :, step] for order, step in cells], axis=1).astype(np.float64)
        per_image, per_order = columns.mean(axis=1), columns.mean(axis=0)
        centre, error = adjusted_change(np.asarray(per_image.sum()), np.asarray((per_image**2).sum()), n)
        ends = (centre - z * error, centre + z * error, per_order.min(), per_order.max())
        effects.append((name, len(cells), float(per_image.mean()), *map(float, ends)))
    table = pd.DataFrame(effects, columns=["added", "n_orders", "effect", "low", "high", "smallest", "largest"])
    return table.sort_values("effect", ascending=False, kind="stable", ignore_index=True)
