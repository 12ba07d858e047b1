"""Paired comparison of arms: a strategy against its control at equal counts, and single additions over orders."""

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

    def table(self) -> pd.DataFrame:
        """Return the rows of the steps after one without a scale, which holds the mean."""
        mean = {"scale": None, "difference": self.difference, "low": self.low, "high": self.high, "p": self.p}
        return pd.concat([pd.DataFrame([mean]).astype({"scale": "Int64"}), self.steps.astype({"scale": "Int64"})])


def compare_with_control(
    scales: Sequence[int], arm: Bool, control: Bool, replicates: int = REPLICATES, seed: int = 0
) -> Comparison:
    """Return the paired difference of an arm to its control at equal counts.

    With one order in both arms the interval of a step is Bonett and Price's and its p exact McNemar; with more, both
    come from the two-way replicates (the same images for both arms, each arm its own orders), so that for two
    aggregations of the same orders the intervals are wide.

    Args:
        scales: the S scales.
        arm, control: bool[n, S] or bool[O, n, S]; the same images in the same order.
        replicates, seed: of the bootstrap.

    Raises:
        ValueError: the arms differ in images or steps, or have not one step per scale.

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
    gained = lost = None
    if len(first) == len(second) == 1:
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


def addition_effects(correct: Bool, added: Sequence[Sequence[str]]) -> pd.DataFrame:
    """Return the change that each addition makes, averaged over the orders, so over the company it comes into.

    In one order a category and its step cannot be told apart; in several orders the same category comes at different
    steps. Its effect is the mean over orders of the accuracy with it less the accuracy just before.

    Args:
        correct: bool[O, n, S], the same images in every order.
        added: for each of the O orders a name of what each of the S steps adds; the first step has nothing
            before it and counts for no effect.

    Returns:
        A row per name: added, n_orders, effect, low, high (95 %, paired over images, for these orders),
        smallest and largest effect in one order; the largest effect first.

    Raises:
        ValueError: the shapes do not fit.

    >>> right = np.arange(100)[:, None] < np.array([[[60, 70, 71]], [[60, 61, 71]]])
    >>> table = addition_effects(right, [["c", "cs", "large c"], ["c", "large c", "cs"]])
    >>> table[["added", "effect"]].round(3).to_dict("list")
    {'added': ['cs', 'large c'], 'effect': [0.1, 0.01]}
    """
    marks = np.asarray(correct, dtype=np.bool_)
    if marks.ndim != 3 or len(added) != len(marks) or any(len(names) != marks.shape[2] for names in added):
        raise ValueError(f"expected a name for every order and step of correct, but got {list(marks.shape)}")
    n = marks.shape[1]
    changes = np.diff(marks.astype(np.int8), axis=2)
    positions: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for order, names in enumerate(added):
        for step, name in enumerate(names[1:]):
            positions[name].append((order, step))
    z = float(ndtri(0.975))
    rows = []
    for name, where in positions.items():
        columns = np.stack([changes[order, :, step] for order, step in where], axis=1).astype(np.float64)
        each, single = columns.mean(axis=1), columns.mean(axis=0)
        centre, error = adjusted_change(np.asarray(each.sum()), np.asarray((each**2).sum()), n)
        ends = (centre - z * error, centre + z * error, single.min(), single.max())
        rows.append((name, len(where), float(each.mean()), *map(float, ends)))
    table = pd.DataFrame(rows, columns=["added", "n_orders", "effect", "low", "high", "smallest", "largest"])
    return table.sort_values("effect", ascending=False, kind="stable", ignore_index=True)
