"""Charts of the report as Vega-Lite specifications; colours are the page's own and follow light, dark and print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

Spec = dict[str, Any]

# custom properties of page.css
_STRATEGY_COLORS = 8
_CONTROL_COLORS = 4
_MOST_COLOURED_CLASSES = 20

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
    return {
        **{name: f"var(--s{i % _STRATEGY_COLORS + 1})" for i, name in enumerate(strategies)},
        **{name: f"var(--c{i % _CONTROL_COLORS + 1})" for i, name in enumerate(controls)},
    }


def curve_chart(steps: pd.DataFrame, critical: Mapping[str, float], colors: Mapping[str, str]) -> Spec:
    """Draw accuracy against scale with simultaneous bands, and a ring at each critical scale.

    Args:
        steps: the rows of steps.parquet of one dataset, model and aggregation.
        critical: strategy -> critical scale, nan where there is none; controls have none here.
        colors: from :func:`series_colors`.
    """
    values = _values(steps, ("accuracy", "band_low", "band_high"), colors)
    for value, row in zip(values, steps.to_dict("records"), strict=True):
        value["k"] = row["scale"] == critical.get(row["strategy"])
        value["t"] = f"{100 * row['accuracy']:.2f} % [{100 * row['band_low']:.2f}, {100 * row['band_high']:.2f}]"
        value["d"] = f"{100 * row['change']:+.2f} points"
    mark = {"type": "point", "filled": False, "size": 240, "strokeWidth": 2.5, "tooltip": None}
    only_critical = {"condition": {"test": "datum.k", "value": 1}, "value": 0}
    ring = {"mark": mark, "encoding": {"y": {"field": "a", "type": "quantitative"}, "opacity": only_critical}}
    lines = _lines(values, colors, "accuracy, %")
    return {**_FRAME, "height": 300, **lines, "layer": [_band(), _line(2.2), ring, _points()]}


def change_panels(steps: pd.DataFrame, panels: Sequence[pd.DataFrame], colors: Mapping[str, str]) -> list[Spec]:
    """Draw the small multiples: change in points against scale, a chart per panel's rows, all on the same axis."""
    low = min(0.0, 100 * float(steps["change_band_low"].min()))
    high = max(0.0, 100 * float(steps["change_band_high"].max()))
    zero = {
        "data": {"values": [{}]},
        "mark": {"type": "rule", "color": "var(--soft)", "strokeDash": [2, 3]},
        "encoding": {"y": {"datum": 0}},
    }
    drawn = []
    for rows in panels:
        values = _values(rows, ("change", "change_band_low", "change_band_high"), colors)
        for value, row in zip(values, rows.to_dict("records"), strict=True):
            value["t"] = f"{100 * row['change']:+.2f} points"
            value["d"] = f"[{100 * row['change_band_low']:.2f}, {100 * row['change_band_high']:.2f}]"
        lines = _lines(values, colors, None)
        curves = {name: part for name, part in lines.items() if name != "params"}
        curves["layer"] = [_band([low, high]), _line(1.6), _points(12)]
        drawn.append({**_FRAME, "height": 120, **lines, "layer": [zero, curves]})
    return drawn


def map_chart(points: pd.DataFrame) -> Spec:
    """Draw the rows of map.parquet of one dataset and model: two principal components of images and texts."""
    classes = list(dict.fromkeys(points["class"]))
    coloured = len(classes) <= _MOST_COLOURED_CLASSES
    values = [
        {"k": kind, "t": label, "c": of, "x": round(float(x), 3), "y": round(float(y), 3)}
        for kind, label, of, x, y in points[["kind", "label", "class", "x", "y"]].itertuples(index=False)
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
        # SVG paints a stroke over its fill, so the letters come again without one
        layers += [{**names, "mark": letters | halo}, {**names, "mark": letters}]
    encoding = {"x": {"field": "x", **hidden}, "y": {"field": "y", **hidden}}
    return {**_FRAME, "height": 340, "data": {"values": values}, "encoding": encoding, "layer": layers}


def _values(steps: pd.DataFrame, columns: tuple[str, str, str], colors: Mapping[str, str]) -> list[Spec]:
    """Return the points of a chart: name, scale, the three columns in percent, and whether it is a control."""
    return [
        {"n": row["strategy"], "s": int(row["scale"]), "c": colors[row["strategy"]].startswith("var(--c")}
        | {key: round(100 * row[column], 3) for key, column in zip("alh", columns, strict=True)}
        for row in steps.to_dict("records")
    ]


def _lines(values: Sequence[Spec], colors: Mapping[str, str], title: str | None) -> Spec:
    names = list(dict.fromkeys(row["n"] for row in values))
    scales = sorted({row["s"] for row in values})
    doubling = len(scales) > 2 and scales[-1] >= 2 * len(scales)
    ticks = scales if len(scales) <= 12 else scales[:: -(-len(scales) // 12)]
    x = {
        "field": "s",
        "type": "quantitative",
        "title": "scale (categories per class)" if title else None,
        "scale": {"nice": False, "zero": False, **({"type": "log", "base": 2} if doubling else {})},
        "axis": {"values": ticks, "format": "d", "grid": False, "labelOverlap": True},
    }
    palette = {"domain": names, "range": [colors[name] for name in names]}
    return {
        "params": [{"name": "shown", "value": names}],
        "data": {"values": list(values)},
        "transform": [{"filter": "indexof(shown, datum.n) >= 0"}],
        "encoding": {
            "x": x,
            "y": {"type": "quantitative", "title": title, "scale": {"zero": False}, "axis": {"tickCount": 5}},
            "color": {"field": "n", "type": "nominal", "legend": None, "scale": palette},
        },
    }


def _band(domain: Sequence[float] | None = None) -> Spec:
    scale: Spec = {"zero": False, **({"domain": list(domain)} if domain else {})}
    opacity = {"condition": {"test": "datum.c", "value": 0.07}, "value": 0.13}
    y = {"field": "l", "type": "quantitative", "scale": scale}
    return {"mark": {"type": "area", "tooltip": None}, "encoding": {"opacity": opacity, "y": y, "y2": {"field": "h"}}}


def _line(width: float) -> Spec:
    dash = {"condition": {"test": "datum.c", "value": [5, 4]}, "value": [1, 0]}
    y = {"field": "a", "type": "quantitative"}
    return {"mark": {"type": "line", "strokeWidth": width, "tooltip": None}, "encoding": {"y": y, "strokeDash": dash}}


def _points(size: int = 42) -> Spec:
    # the nearest point answers, so that a finger need not hit it
    select = {"type": "point", "on": "pointerover", "nearest": True, "clear": "pointerout", "toggle": False}
    titles = {"n": "categories", "s": "scale", "t": "found", "d": "change"}
    return {
        "params": [{"name": "near", "select": select}],
        "mark": {"type": "point", "filled": True, "opacity": 1},
        "encoding": {
            "y": {"field": "a", "type": "quantitative"},
            "size": {"condition": {"param": "near", "empty": False, "value": 130}, "value": size},
            "tooltip": [{"field": field, "title": title} for field, title in titles.items()],
        },
    }
