"""Vega-Lite specifications of the report's charts; colours are custom properties of the page: light, dark and print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

Spec = dict[str, Any]

# custom properties of page.css
_STRATEGY_COLORS = 8
_CONTROL_COLORS = 4
_MOST_COLOURED_CLASSES = 20
_TOOLTIP_COLUMNS = ("accuracy", "band_low", "band_high", "change", "change_band_low", "change_band_high")

_AXIS = dict.fromkeys(("labelColor", "titleColor"), "var(--soft)")
_AXIS |= dict.fromkeys(("gridColor", "domainColor", "tickColor"), "var(--line)")
_FRAME: Spec = {
    "width": "container",
    "autosize": {"type": "fit-x", "contains": "padding"},
    "config": {
        "background": None,
        "font": "system-ui, sans-serif",
        "view": {"stroke": None},
        "aria": False,
        "axis": {**_AXIS, "titleFontWeight": "normal", "labelFontSize": 12, "titleFontSize": 12},
    },
}


def series_colors(curves: pd.DataFrame) -> dict[str, str]:
    """Return a CSS colour for each strategy and control, the same in all charts of a study."""
    roles = dict(zip(curves["strategy"], curves["role"], strict=True))
    strategies = [name for name, role in roles.items() if role != "control"]
    controls = [name for name, role in roles.items() if role == "control"]
    colors = {name: f"var(--s{i % _STRATEGY_COLORS + 1})" for i, name in enumerate(strategies)}
    return colors | {name: f"var(--c{i % _CONTROL_COLORS + 1})" for i, name in enumerate(controls)}


def curve_chart(steps: pd.DataFrame, critical: Mapping[str, float], colors: Mapping[str, str]) -> Spec:
    """Draw accuracy against scale with simultaneous bands, and a ring at each critical scale.

    Args:
        steps: the rows of steps.parquet of one dataset, model and aggregation.
        critical: strategy -> critical scale, nan if it has none; without controls.
        colors: from :func:`series_colors`.
    """
    series = _series(_values(steps, ("accuracy", "band_low", "band_high"), colors, critical), colors, "accuracy, %")
    mark = {"type": "point", "filled": False, "size": 240, "strokeWidth": 2.5, "tooltip": None}
    only_critical = {"condition": {"test": "datum.k", "value": 1}, "value": 0}
    ring = {"mark": mark, "encoding": {"y": _quantity("a"), "opacity": only_critical}}
    band, line, points = _marks(2.2, 42)
    return {**_FRAME, "height": 300, **series, "layer": [band, line, ring, points]}


def change_panels(steps: pd.DataFrame, panels: Sequence[pd.DataFrame], colors: Mapping[str, str]) -> list[Spec]:
    """Draw small multiples: change in points against scale, one chart per panel, all on the same axis."""
    domain = [min(0.0, 100 * steps["change_band_low"].min()), max(0.0, 100 * steps["change_band_high"].max())]
    mark = {"type": "rule", "color": "var(--soft)", "strokeDash": [2, 3]}
    zero = {"data": {"values": [{}]}, "mark": mark, "encoding": {"y": {"datum": 0}}}
    charts = []
    for rows in panels:
        series = _series(_values(rows, ("change", "change_band_low", "change_band_high"), colors), colors, None)
        curves = {name: part for name, part in series.items() if name != "params"}
        layers = [zero, {**curves, "layer": _marks(1.6, 12, domain)}]
        charts.append({**_FRAME, "height": 120, **series, "layer": layers})
    return charts


def map_chart(points: pd.DataFrame) -> Spec:
    """Draw the rows of map.parquet of one dataset and model: two principal components of images and texts."""
    classes = list(dict.fromkeys(points["class"]))
    coloured = len(classes) <= _MOST_COLOURED_CLASSES
    values = [
        {"k": kind, "t": label, "c": name, "x": round(float(x), 3), "y": round(float(y), 3)}
        for kind, label, name, x, y in points[["kind", "label", "class", "x", "y"]].itertuples(index=False)
    ]
    scale = {"domain": classes, "scheme": "tableau20"}
    color: Spec = {"field": "c", "type": "nominal", "scale": scale, "legend": None}
    hidden = {"type": "quantitative", "axis": None, "scale": {"zero": False, "nice": True}}

    def marks(kind: str, mark: Spec) -> Spec:
        tooltip = [{"field": "t", "title": kind}, {"field": "c", "title": "class"}]
        encoding = {"color": color if coloured else {"value": "var(--s1)"}, "tooltip": tooltip}
        return {"transform": [{"filter": f"datum.k == '{kind}'"}], "mark": mark, "encoding": encoding}

    dot = {"type": "circle", "size": 26, "opacity": 0.55}
    diamond = {"type": "point", "shape": "diamond", "size": 55, "filled": True, "opacity": 0.95}
    layers = [marks("image", dot), marks("category", diamond | {"stroke": "var(--ink)", "strokeWidth": 0.8})]
    if coloured:
        letters = {"type": "text", "dy": -9, "fontSize": 12, "fontWeight": 600, "color": "var(--ink)", "tooltip": None}
        halo = {"stroke": "var(--page)", "strokeWidth": 3, "strokeJoin": "round"}
        names = {
            "transform": [{"filter": "datum.k == 'category' && datum.t == datum.c"}],
            "encoding": {"text": {"field": "t"}},
        }
        # SVG paints strokes over fills, so the letters are drawn a second time, without the halo
        layers += [{**names, "mark": letters | halo}, {**names, "mark": letters}]
    encoding = {"x": {"field": "x", **hidden}, "y": {"field": "y", **hidden}}
    return {**_FRAME, "height": 340, "data": {"values": values}, "encoding": encoding, "layer": layers}


def _values(
    steps: pd.DataFrame, columns: Sequence[str], colors: Mapping[str, str], critical: Mapping[str, float] | None = None
) -> list[Spec]:
    """Return the points of a chart: name, scale, the three columns in percent, and the texts of the tooltip."""
    values = []
    for row in steps.to_dict("records"):
        accuracy, low, high, change, least, most = (100 * row[name] for name in _TOOLTIP_COLUMNS)
        marks = {"c": colors[row["strategy"]].startswith("var(--c"), "k": False}
        if critical is not None:
            marks["k"] = row["scale"] == critical.get(row["strategy"])
        words = {
            "t": f"{accuracy:.2f} % [{low:.2f}, {high:.2f}]",
            "d": f"{change:+.2f} points [{least:.2f}, {most:.2f}]",
        }
        numbers = {key: round(100 * row[column], 3) for key, column in zip("alh", columns, strict=True)}
        values.append({"n": row["strategy"], "s": int(row["scale"]), **marks, **words, **numbers})
    return values


def _series(values: Sequence[Spec], colors: Mapping[str, str], title: str | None) -> Spec:
    names = list(dict.fromkeys(row["n"] for row in values))
    scales = sorted({row["s"] for row in values})
    doubling = len(scales) > 2 and scales[-1] >= 2 * len(scales)
    ticks = scales if len(scales) <= 12 else scales[:: -(-len(scales) // 12)]
    x = _quantity("s") | {
        "title": "scale (categories per class)" if title else None,
        "scale": {"nice": False, "zero": False, **({"type": "log", "base": 2} if doubling else {})},
        "axis": {"values": ticks, "format": "d", "grid": False, "labelOverlap": True},
    }
    y = {"type": "quantitative", "title": title, "scale": {"zero": False}, "axis": {"tickCount": 5}}
    palette = {"domain": names, "range": [colors[name] for name in names]}
    color = {"field": "n", "type": "nominal", "legend": None, "scale": palette}
    return {
        "params": [{"name": "shown", "value": names}],
        "data": {"values": list(values)},
        "transform": [{"filter": "indexof(shown, datum.n) >= 0"}],
        "encoding": {"x": x, "y": y, "color": color},
    }


def _quantity(field: str) -> Spec:
    return {"field": field, "type": "quantitative"}


def _marks(width: float, size: int, domain: Sequence[float] | None = None) -> list[Spec]:
    """Return the layers of a chart of curves: bands, lines and points; controls are paler and dashed."""
    low = _quantity("l") | {"scale": {"zero": False, **({"domain": list(domain)} if domain else {})}}
    pale = {"condition": {"test": "datum.c", "value": 0.07}, "value": 0.13}
    dash = {"condition": {"test": "datum.c", "value": [5, 4]}, "value": [1, 0]}
    # the point nearest to the pointer is selected, which suits touch screens
    select = {"type": "point", "on": "pointerover", "nearest": True, "clear": "pointerout", "toggle": False}
    grown = {"condition": {"param": "near", "empty": False, "value": 130}, "value": size}
    titles = {"n": "categories", "s": "scale", "t": "accuracy", "d": "change"}
    tooltip = [{"field": field, "title": title} for field, title in titles.items()]
    area, stroke = {"type": "area", "tooltip": None}, {"type": "line", "strokeWidth": width, "tooltip": None}
    return [
        {"mark": area, "encoding": {"opacity": pale, "y": low, "y2": {"field": "h"}}},
        {"mark": stroke, "encoding": {"y": _quantity("a"), "strokeDash": dash}},
        {
            "params": [{"name": "near", "select": select}],
            "mark": {"type": "point", "filled": True, "opacity": 1},
            "encoding": {"y": _quantity("a"), "size": grown, "tooltip": tooltip},
        },
    ]
