"""Tables of a run that the report shows: per curve the flipped images, the winning categories and the confusions."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from PIL import Image

from semscale.report.headlines import rows_of

_PICTURES = 8
_WINNERS = 10
_CONFUSIONS = 8
_MOST_HEATED = 40


@dataclass(frozen=True)
class CategorySet:
    """The last step of a ladder: class -> its texts in the order in which they are added, for some of the classes."""

    dataset: str
    strategy: str
    scales: Sequence[int]
    categories: Mapping[str, Sequence[str]]
    n_classes: int
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class RunTables:
    """The tables of numbers of a run directory; the last two may be empty."""

    trials: pd.DataFrame
    curves: pd.DataFrame
    steps: pd.DataFrame
    controls: pd.DataFrame
    across: pd.DataFrame


@dataclass(frozen=True)
class Evidence:
    """Small tables of a run directory, each of which may be empty.

    Attributes:
        flips: images that are labelled right at one of scale 1 and `scale` and wrong at the other, the surest first:
            ``direction`` (gained, lost), ``n`` (all of this direction), the winning category ``before`` and ``after``.
        thumbnails: ``picture``, a JPEG.
        winners: per category ``share`` of the images that it wins at `scale`, and how many ``images`` that is,
            ``right`` ones, and ``gained`` and ``lost`` against scale 1.
        confusions: images by ``true_class`` and ``predicted_class``, ``before`` and ``after``.
        points: map.parquet; ``kind`` (image, category), and the ``variance`` that the two axes hold.
        environment: environment.json with what the study file says of servers and seeds.
    """

    flips: pd.DataFrame = field(default_factory=pd.DataFrame)
    thumbnails: pd.DataFrame = field(default_factory=pd.DataFrame)
    winners: pd.DataFrame = field(default_factory=pd.DataFrame)
    confusions: pd.DataFrame = field(default_factory=pd.DataFrame)
    points: pd.DataFrame = field(default_factory=pd.DataFrame)
    quarantine: pd.DataFrame = field(default_factory=pd.DataFrame)
    categories: Sequence[CategorySet] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)


def changed_curves(
    evidence: Evidence, curves: Sequence[Mapping[Any, Any]], heads: Sequence[str]
) -> list[dict[str, Any]]:
    """Return what the page shows of each row of curves.parquet that has evidence; `heads` are the curves' names."""
    pictures = {
        (row["dataset"], row["file"]): base64.b64encode(row["picture"]).decode()
        for row in evidence.thumbnails.to_dict("records")
    }
    shown = []
    for curve, head in zip(curves, heads, strict=True):
        tables = (evidence.flips, evidence.winners, evidence.confusions)
        flips, winners, confusions = (rows_of(table, curve) for table in tables)
        if len(winners):
            scale = int(winners["scale"].iloc[0])
            found = {"head": head, "scale": scale, "is_peak": scale == curve["peak_scale"], "n_winners": len(winners)}
            found["flips"] = [_direction(flips, name, winners, pictures) for name in ("gained", "lost")]
            found["winners"] = winners.head(_WINNERS).to_dict("records")
            shown.append(found | {"confusions": _largest(confusions), "heat": _heat(confusions)})
    return shown


def _direction(
    flips: pd.DataFrame, name: str, winners: pd.DataFrame, pictures: Mapping[tuple[str, str], str]
) -> dict[str, Any]:
    mine = flips[flips["direction"] == name] if len(flips) else flips
    counted = winners[winners[name] > 0].sort_values(name, ascending=False, kind="stable").head(4)
    images = mine.head(_PICTURES).to_dict("records")
    return {
        "name": name,
        "n": int(mine["n"].iloc[0]) if len(mine) else 0,
        "by": counted[["category", name]].to_records(index=False).tolist(),
        "images": [row | {"picture": pictures.get((row["dataset"], row["file"]))} for row in images],
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
    if not 2 <= len(classes) <= _MOST_HEATED or not set(confusions["predicted_class"]) <= set(classes):
        return []
    heats = []
    for when in ("before", "after"):
        counts = confusions.pivot_table(when, "true_class", "predicted_class", "sum", fill_value=0, observed=True)
        cells = counts.reindex(index=classes, columns=classes, fill_value=0).to_numpy()
        share = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
        buffer = io.BytesIO()
        # a confused twentieth must be seen beside a diagonal of nineteen
        Image.fromarray(matplotlib.colormaps["Blues"](np.sqrt(share), bytes=True)[..., :3]).save(buffer, "PNG")
        heats.append({"when": when, "picture": base64.b64encode(buffer.getvalue()).decode(), "n": str(len(classes))})
    return heats
