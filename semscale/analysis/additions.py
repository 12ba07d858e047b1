"""What each single category adds, told from several orders of the same categories."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import ndtri

from semscale.analysis.paired import adjusted_change
from semscale.analysis.patterns import Bool


def addition_effects(correct: Bool, added: Sequence[Sequence[str]]) -> pd.DataFrame:
    """Return the change that each addition makes, averaged over the orders, so over the company it comes into.

    In one order a category and its step cannot be told apart; in several orders the same category comes at
    different steps. Its effect is the mean over orders of the accuracy with it less the accuracy just before.

    Args:
        correct: bool[O, n, S], the same images in every order.
        added: for each of the O orders a name of what each of the S steps adds; the first step has nothing
            before it and counts for no effect.

    Returns:
        A row per name: added, n_orders, effect, low, high (95 %, paired over images, for these orders),
        smallest and largest effect in one order; the largest effect first.

    Raises:
        ValueError: when the shapes do not fit.

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
    places: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for order, names in enumerate(added):
        for step, name in enumerate(names[1:]):
            places[name].append((order, step))
    z = float(ndtri(0.975))
    rows = []
    for name, where in places.items():
        columns = np.stack([changes[order, :, step] for order, step in where], axis=1).astype(np.float64)
        each = columns.mean(axis=1)
        centre, error = adjusted_change(np.asarray(each.sum()), np.asarray((each**2).sum()), n)
        single = columns.mean(axis=0)
        rows.append(
            {
                "added": name,
                "n_orders": len(where),
                "effect": float(each.mean()),
                "low": float(centre - z * error),
                "high": float(centre + z * error),
                "smallest": float(single.min()),
                "largest": float(single.max()),
            }
        )
    columns_out = ["added", "n_orders", "effect", "low", "high", "smallest", "largest"]
    table = pd.DataFrame(rows, columns=columns_out)
    return table.sort_values("effect", ascending=False, kind="stable", ignore_index=True)
