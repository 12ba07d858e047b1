"""Evidence as the page shows it: per curve the flipped images, the winning categories and the confusions."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from semscale.report.answers import CURVE
from semscale.report.evidence import Evidence

_PICTURES = 8
_WINNERS = 10
_CONFUSIONS = 8
_MOST_HEATED = 40
# the page's own: nothing, and all images of a class
_LIGHT, _STRONG = np.array([232.0, 238.0, 244.0]), np.array([20.0, 82.0, 140.0])


def shown_curves(evidence: Evidence, curves: Sequence[Mapping[Any, Any]], heads: Sequence[str]) -> list[dict[str, Any]]:
    """Return for each curve with evidence what the template needs of it.

    Args:
        evidence: the tables of a run.
        curves: rows of curves.parquet.
        heads: what the curves are called.
    """
    pictures = {
        (row["dataset"], row["file"]): base64.b64encode(row["picture"]).decode()
        for row in evidence.thumbnails.to_dict("records")
    }
    found = []
    for curve, head in zip(curves, heads, strict=True):
        key = tuple(curve[name] for name in CURVE)
        flips, winners, confusions = (
            _of(table, key) for table in (evidence.flips, evidence.winners, evidence.confusions)
        )
        if not len(winners):
            continue
        scale = int(winners["scale"].iloc[0])
        found.append(
            {
                "head": head,
                "scale": scale,
                "is_peak": scale == curve["peak_scale"],
                "flips": [_direction(flips, name, winners, pictures) for name in ("gained", "lost")],
                "winners": winners.head(_WINNERS).to_dict("records"),
                "n_winners": len(winners),
                "confusions": _largest(confusions),
                "heat": _heat(confusions),
            }
        )
    return found


def _of(table: pd.DataFrame, key: tuple[Any, ...]) -> pd.DataFrame:
    return table[(table[list(CURVE)] == list(key)).all(axis=1)] if len(table) else table


def _direction(
    flips: pd.DataFrame, name: str, winners: pd.DataFrame, pictures: Mapping[tuple[str, str], str]
) -> dict[str, Any]:
    mine = flips[flips["direction"] == name] if len(flips) else flips
    counted = winners[winners[name] > 0].sort_values(name, ascending=False, kind="stable")
    return {
        "name": name,
        "n": int(mine["n"].iloc[0]) if len(mine) else 0,
        "by": [(row["category"], int(row[name])) for row in counted.head(4).to_dict("records")],
        "images": [
            row | {"picture": pictures.get((row["dataset"], row["file"]))}
            for row in mine.head(_PICTURES).to_dict("records")
        ],
    }


def _largest(confusions: pd.DataFrame) -> list[dict[Any, Any]]:
    """Return the confusions that changed most, then the most frequent ones."""
    if not len(confusions):
        return []
    wrong = confusions[confusions["true_class"] != confusions["predicted_class"]]
    wrong = wrong.assign(change=wrong["after"] - wrong["before"], most=wrong[["before", "after"]].max(axis=1))
    wrong = wrong.assign(size=wrong["change"].abs()).sort_values(["size", "most"], ascending=False, kind="stable")
    return wrong.head(_CONFUSIONS).to_dict("records")


def _heat(confusions: pd.DataFrame) -> list[dict[str, str]]:
    """Return the confusion matrices before and after as tiny pictures, one pixel per pair of classes."""
    classes = list(dict.fromkeys(confusions["true_class"])) if len(confusions) else []
    predicted = set(confusions["predicted_class"]) if len(confusions) else set()
    if not 2 <= len(classes) <= _MOST_HEATED or not predicted <= set(classes):
        return []
    index = {name: i for i, name in enumerate(classes)}
    rows, columns = (confusions[name].map(index).to_numpy() for name in ("true_class", "predicted_class"))
    heats = []
    for when in ("before", "after"):
        counts = np.zeros((len(classes), len(classes)))
        counts[rows, columns] = confusions[when].to_numpy()
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        # a confused twentieth must be seen beside a diagonal of nineteen
        heat = np.sqrt(share)[..., None]
        pixels = (_LIGHT + heat * (_STRONG - _LIGHT)).round().astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        heats.append({"when": when, "picture": base64.b64encode(buffer.getvalue()).decode(), "n": str(len(classes))})
    return heats
