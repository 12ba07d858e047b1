"""Headlines of curves: a sentence each, with a gain only where it is significant, and the comparison with controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

CURVE_KEY = ("dataset", "model", "strategy", "aggregation")
"""Columns that identify a curve."""
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Headline:
    """Sentence on a curve in parts: its name, the verdict (`up`, `down`, `none`), the change in points, the detail."""

    curve: str
    verdict: str
    change: str
    detail: str

    def __str__(self) -> str:
        """Return the sentence."""
        return f"{self.curve}: {self.change} {self.detail}."


def headline(
    curve: Mapping[Any, Any], steps: pd.DataFrame, controls: pd.DataFrame, *, several: bool = False
) -> Headline:
    """Return the headline of a row of curves.parquet; with several models it names the model.

    The permutation test of the peak decides whether there is a gain. It is reported at the critical scale, with the
    simultaneous interval of the curve's changes, which accounts for the choice of the scale.

    >>> curve = {"dataset": "pets", "strategy": "wordnet", "model": "m", "aggregation": "max", "baseline": 0.9,
    ...          "peak_p": 0.001, "peak_scale": 4, "critical_scale": 4, "final_change_high": 0.02}
    >>> steps = pd.DataFrame({"dataset": "pets", "strategy": "wordnet", "model": "m", "aggregation": "max",
    ...                       "scale": [1, 2, 4, 8], "change": [0, 0.01, 0.018, 0.017],
    ...                       "change_band_low": [0, 0, 0.009, 0.008], "change_band_high": [0, 0.02, 0.027, 0.026]})
    >>> str(headline(curve, steps, pd.DataFrame()))
    'pets x wordnet: +1.8 points [0.9, 2.7] by scale 4, no further gain (p = 0.001).'
    """
    names = [curve["dataset"], curve["strategy"]]
    names += [curve["model"]] if several else []
    names += [] if curve["aggregation"] == "max" else [curve["aggregation"]]
    changes = rows_of(steps, curve).set_index("scale").sort_index()
    last = int(changes.index[-1])
    critical = last if pd.isna(curve["critical_scale"]) else int(curve["critical_scale"])
    p = f"(p = {curve['peak_p']:.3f})" if curve["peak_p"] >= 0.0005 else "(p < 0.001)"
    if curve["peak_p"] < SIGNIFICANT and curve["peak_scale"] > 1:
        scale = critical if critical > 1 else int(curve["peak_scale"])
        further = "the last one tried" if scale == last else "no further gain"
        verdict, detail = "up", f"by scale {scale}, {further} {p}"
    elif curve["final_change_high"] < 0:
        scale, verdict, detail = last, "down", f"at scale {last}; no scale is better than the class names"
    else:
        scale, verdict = int(curve["peak_scale"]), "none"
        best = f"at its best, scale {scale}" if scale > 1 else "at every scale, at most"
        detail = f"{best}: not distinguishable from chance {p}"
    change, low, high = (100 * float(changes[f"change{end}"].loc[scale]) for end in ("", "_band_low", "_band_high"))
    detail += _against_controls(curve, controls)
    return Headline(" x ".join(map(str, names)), verdict, f"{change:+.1f} points [{low:.1f}, {high:.1f}]", detail)


def rows_of(table: pd.DataFrame, curve: Mapping[Any, Any]) -> pd.DataFrame:
    """Return the rows of a curve; an empty table, which may lack the key columns, has none."""
    return table[(table[list(CURVE_KEY)] == [curve[name] for name in CURVE_KEY]).all(axis=1)] if len(table) else table


def _against_controls(curve: Mapping[Any, Any], controls: pd.DataFrame) -> str:
    parts = []
    for row in rows_of(controls, curve).to_dict("records"):
        if not pd.isna(row["scale"]):
            continue  # the mean over all scales has none
        if row["low"] <= 0 <= row["high"]:
            parts.append(f"not distinguishable from {row['control']}")
        else:
            word = "better" if row["low"] > 0 else "worse"
            parts.append(f"{100 * abs(row['difference']):.1f} points {word} than {row['control']}")
    return "; at equal counts " + ", ".join(parts) if parts else ""
