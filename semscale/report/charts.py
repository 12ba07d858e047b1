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

_CONFIG: Spec = {
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "aria": False,
    "axis": {
        "labelColor": "var(--soft)",
        "titleColor": "var(--soft)",
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "titleFontWeight": "normal",
        "labelFontSize": 12,
        "titleFontSize": 12,
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
    names = list(dict.fromkeys(steps["strategy"]))
    values = [
        {
            "n": row["strategy"],
            "s": int(row["scale"]),
            "a": round(100 * row["accuracy"], 3),
            "l": round(100 * row["band_low"], 3),
            "h": round(100 * row["band_high"], 3),
            "c": colors[row["strategy"]].startswith("var(--c"),
            "k": row["scale"] == critical.get(row["strategy"]),
            "t": f"{100 * row['accuracy']:.2f} % [{100 * row['band_low']:.2f}, {100 * row['band_high']:.2f}]",
            "d": f"{100 * row['change']:+.2f} points" if "change" in row else "",
        }
        for row in steps.to_dict("records")
    ]
    ring = {"type": "point", "filled": False, "size": 240, "strokeWidth": 2.5, "tooltip": None}
    only_critical = {"condition": {"test": "datum.k", "value": 1}, "value": 0}
    return _lines(values, names, colors, "accuracy, %", 300) | {
        "layer": [
            _band(),
            _line(2.2),
            {"mark": ring, "encoding": {"y": {"field": "a", "type": "quantitative"}, "opacity": only_critical}},
            _points(),
        ],
    }


def change_panels(steps: pd.DataFrame, panels: Sequence[Any], colors: Mapping[str, str]) -> list[Spec]:
    """Draw the small multiples: change in points against scale, one panel per group, all on the same axis.

    Args:
        steps: steps.parquet.
        panels: the rows of steps.parquet of each panel.
        colors: from :func:`series_colors`.
    """
    low = min(0.0, 100 * float(steps["change_band_low"].min()))
    high = max(0.0, 100 * float(steps["change_band_high"].max()))
    drawn = []
    for rows in panels:
        values = [
            {
                "n": row["strategy"],
                "s": int(row["scale"]),
                "a": round(100 * row["change"], 3),
                "l": round(100 * row["change_band_low"], 3),
                "h": round(100 * row["change_band_high"], 3),
                "c": colors[row["strategy"]].startswith("var(--c"),
                "t": f"{100 * row['change']:+.2f} points",
                "d": f"[{100 * row['change_band_low']:.2f}, {100 * row['change_band_high']:.2f}]",
            }
            for row in rows.to_dict("records")
        ]
        spec = _lines(values, list(dict.fromkeys(rows["strategy"])), colors, None, 120)
        zero = {
            "data": {"values": [{}]},
            "mark": {"type": "rule", "color": "var(--soft)", "strokeDash": [2, 3]},
            "encoding": {"y": {"datum": 0}},
        }
        spec["layer"] = [_band([low, high]), _line(1.6), _points(12)]
        spec = {**spec, "layer": [zero, {key: spec.pop(key) for key in ("transform", "encoding", "layer", "data")}]}
        drawn.append(spec)
    return drawn


def map_chart(points: pd.DataFrame) -> Spec:
    """Draw the first two principal components of images and category texts.

    Args:
        points: the rows of map.parquet of one dataset and model.
    """
    classes = list(dict.fromkeys(points["class"]))
    coloured = len(classes) <= _MOST_COLOURED_CLASSES
    values = [
        {"k": kind, "t": label, "c": of, "x": round(float(x), 3), "y": round(float(y), 3)}
        for kind, label, of, x, y in points[["kind", "label", "class", "x", "y"]].itertuples(index=False)
    ]
    scale = {"domain": classes, "scheme": "tableau20"}
    color: Spec = (
        {"field": "c", "type": "nominal", "scale": scale, "legend": None} if coloured else {"value": "var(--s1)"}
    )
    tooltip = [{"field": "t", "title": "of"}, {"field": "c", "title": "class"}]
    hidden = {"type": "quantitative", "axis": None, "scale": {"zero": False, "nice": True}}
    layers: list[Spec] = [
        {
            "transform": [{"filter": "datum.k == 'image'"}],
            "mark": {"type": "circle", "size": 26, "opacity": 0.55},
            "encoding": {"color": color, "tooltip": [{**tooltip[0], "title": "image"}, tooltip[1]]},
        },
        {
            "transform": [{"filter": "datum.k == 'category'"}],
            "mark": {"type": "point", "shape": "diamond", "size": 55, "filled": True, "opacity": 0.95}
            | {"stroke": "var(--ink)", "strokeWidth": 0.8},
            "encoding": {"color": color, "tooltip": [{**tooltip[0], "title": "category"}, tooltip[1]]},
        },
    ]
    if coloured:
        layers.append(
            {
                "transform": [{"filter": "datum.k == 'category' && datum.t == datum.c"}],
                "mark": {"type": "text", "dy": -9, "fontSize": 12, "fontWeight": 600, "color": "var(--ink)"}
                | {"tooltip": None, "stroke": "var(--page)", "strokeWidth": 3, "strokeJoin": "round"},
                "encoding": {"text": {"field": "t"}},
            }
        )
        # SVG paints a stroke over its fill, so the letters come again without one
        layers.append({**layers[-1], "mark": {**layers[-1]["mark"], "stroke": None}})
    return {
        "width": "container",
        "height": 340,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "config": _CONFIG,
        "data": {"values": values},
        "encoding": {"x": {"field": "x", **hidden}, "y": {"field": "y", **hidden}},
        "layer": layers,
    }


def _lines(
    values: Sequence[Spec], names: Sequence[str], colors: Mapping[str, str], title: str | None, height: int
) -> Spec:
    scales = sorted({row["s"] for row in values})
    doubling = len(scales) > 2 and scales[-1] >= 2 * len(scales)
    ticks = scales if len(scales) <= 12 else scales[:: -(-len(scales) // 12)]
    return {
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "config": _CONFIG,
        "params": [{"name": "shown", "value": list(names)}],
        "data": {"values": list(values)},
        "transform": [{"filter": "indexof(shown, datum.n) >= 0"}],
        "encoding": {
            "x": {
                "field": "s",
                "type": "quantitative",
                "title": "scale (categories per class)" if title else None,
                "scale": {"nice": False, "zero": False, **({"type": "log", "base": 2} if doubling else {})},
                "axis": {"values": ticks, "format": "d", "grid": False, "labelOverlap": True},
            },
            "y": {"type": "quantitative", "title": title, "scale": {"zero": False}, "axis": {"tickCount": 5}},
            "color": {
                "field": "n",
                "type": "nominal",
                "legend": None,
                "scale": {"domain": list(names), "range": [colors[name] for name in names]},
            },
        },
    }


def _band(domain: Sequence[float] | None = None) -> Spec:
    scale: Spec = {"zero": False, **({"domain": list(domain)} if domain else {})}
    return {
        "mark": {"type": "area", "tooltip": None},
        "encoding": {
            "opacity": {"condition": {"test": "datum.c", "value": 0.07}, "value": 0.13},
            "y": {"field": "l", "type": "quantitative", "scale": scale},
            "y2": {"field": "h"},
        },
    }


def _line(width: float) -> Spec:
    dash = {"condition": {"test": "datum.c", "value": [5, 4]}, "value": [1, 0]}
    return {
        "mark": {"type": "line", "strokeWidth": width, "tooltip": None},
        "encoding": {"y": {"field": "a", "type": "quantitative"}, "strokeDash": dash},
    }


def _points(size: int = 42) -> Spec:
    return {
        # the nearest point answers, so that a finger need not hit it
        "params": [
            {
                "name": "near",
                "select": {
                    "type": "point",
                    "on": "pointerover",
                    "nearest": True,
                    "clear": "pointerout",
                    "toggle": False,
                },
            }
        ],
        "mark": {"type": "point", "filled": True, "opacity": 1},
        "encoding": {
            "y": {"field": "a", "type": "quantitative"},
            "size": {"condition": {"param": "near", "empty": False, "value": 130}, "value": size},
            "tooltip": [
                {"field": "n", "title": "categories"},
                {"field": "s", "title": "scale"},
                {"field": "t", "title": "found"},
                {"field": "d", "title": "change"},
            ],
        },
    }
