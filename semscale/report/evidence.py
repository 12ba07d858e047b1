"""Tables of a run for the report: per curve its flipped images, winning categories and confusions."""

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
_MOST_HEATMAP_CLASSES = 40


@dataclass(frozen=True)
class CategorySet:
    """Categories of a ladder: class -> texts in the order in which they are added, for some of the classes."""

    dataset: str
    strategy: str
    scales: Sequence[int]
    categories: Mapping[str, Sequence[str]]
    n_classes: int
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class RunTables:
    """Numeric tables of a run directory; the last two may be empty."""

    trials: pd.DataFrame
    curves: pd.DataFrame
    steps: pd.DataFrame
    controls: pd.DataFrame
    across: pd.DataFrame


@dataclass(frozen=True)
class Evidence:
    """Small tables of a run directory, each of which may be empty.

    Attributes:
        flips: images labelled correctly at only one of scale 1 and `scale`, largest margin first: ``direction``
            (gained, lost), ``n`` (images in this direction), winning category ``before`` and ``after``.
        thumbnails: ``picture``, a JPEG.
        winners: per category the ``share`` and number of ``images`` that it wins at `scale`, those that are ``right``,
            and those ``gained`` and ``lost`` against scale 1.
        confusions: numbers of images by ``true_class`` and ``predicted_class``, ``before`` and ``after``.
        points: map.parquet; ``kind`` (image, category), and the ``variance`` explained by the two axes.
        environment: environment.json with the servers and seeds of the study file.
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
    evidence: Evidence, curves: Sequence[Mapping[Any, Any]], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the template variables of each row of curves.parquet that has evidence; `names` are the curves' names."""
    pictures = {
        (row["dataset"], row["file"]): base64.b64encode(row["picture"]).decode()
        for row in evidence.thumbnails.to_dict("records")
    }
    changes = []
    for curve, name in zip(curves, names, strict=True):
        tables = (evidence.flips, evidence.winners, evidence.confusions)
        flips, winners, confusions = (rows_of(table, curve) for table in tables)
        if len(winners):
            scale = int(winners["scale"].iloc[0])
            change = {"name": name, "scale": scale, "is_peak": scale == curve["peak_scale"], "n_winners": len(winners)}
            change["flips"] = [_flips(flips, direction, winners, pictures) for direction in ("gained", "lost")]
            change["winners"] = winners.head(_WINNERS).to_dict("records")
            changes.append(change | {"confusions": _largest_confusions(confusions), "heat": _heatmaps(confusions)})
    return changes


def _flips(
    flips: pd.DataFrame, direction: str, winners: pd.DataFrame, pictures: Mapping[tuple[str, str], str]
) -> dict[str, Any]:
    rows = flips[flips["direction"] == direction] if len(flips) else flips
    causes = winners[winners[direction] > 0].sort_values(direction, ascending=False, kind="stable").head(4)
    images = rows.head(_PICTURES).to_dict("records")
    return {
        "name": direction,
        "n": int(rows["n"].iloc[0]) if len(rows) else 0,
        "by": causes[["category", direction]].to_records(index=False).tolist(),
        "images": [row | {"picture": pictures.get((row["dataset"], row["file"]))} for row in images],
    }


def _largest_confusions(confusions: pd.DataFrame) -> list[dict[Any, Any]]:
    """Return the confusions that changed most, then the most frequent ones."""
    if not len(confusions):
        return []
    wrong = confusions[confusions["true_class"] != confusions["predicted_class"]]
    wrong = wrong.assign(change=wrong["after"] - wrong["before"], most=wrong[["before", "after"]].max(axis=1))
    wrong = wrong.assign(size=wrong["change"].abs()).sort_values(["size", "most"], ascending=False, kind="stable")
    return wrong.head(_CONFUSIONS).to_dict("records")


def _heatmaps(confusions: pd.DataFrame) -> list[dict[str, str]]:
    """Return the confusion matrices before and after as tiny pictures, one pixel per cell."""
    classes = list(dict.fromkeys(confusions["true_class"])) if len(confusions) else []
    if not 2 <= len(classes) <= _MOST_HEATMAP_CLASSES or not set(confusions["predicted_class"]) <= set(classes):
        return []
    heatmaps = []
    for when in ("before", "after"):
        counts = confusions.pivot_table(when, "true_class", "predicted_class", "sum", fill_value=0, observed=True)
        cells = counts.reindex(index=classes, columns=classes, fill_value=0).to_numpy()
        share = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
        buffer = io.BytesIO()
        # the square root makes a confusion of 5 % visible beside a diagonal of 95 %
        Image.fromarray(matplotlib.colormaps["Blues"](np.sqrt(share), bytes=True)[..., :3]).save(buffer, "PNG")
        heatmaps.append({"when": when, "picture": base64.b64encode(buffer.getvalue()).decode(), "n": str(len(classes))})
    return heatmaps
