"""The HTML report of a run directory: one file without outside references, everything from data escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import semscale
from semscale.report.figures import CurveLine, curves_svg

_SIGNIFICANT = 0.05
_CURVE = ("dataset", "model", "strategy", "aggregation")


def write_report(
    directory: Path,
    study: str,
    trials: pd.DataFrame,
    curves: pd.DataFrame,
    steps: pd.DataFrame,
    controls: pd.DataFrame,
    across: pd.DataFrame,
) -> Path:
    """Write report.html into a run directory.

    Args:
        directory: the run directory.
        study: the study's name.
        trials, curves, steps, controls, across: the tables of the run directory; the last two may be empty.

    Returns:
        The path of the file.
    """
    # class, dataset and strategy names come from outside: autoescape keeps a class named <script> harmless
    environment = Environment(
        loader=PackageLoader("semscale.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=False
    )
    rows = curves.to_dict("records")
    page = environment.get_template("page.html").render(
        study=study,
        sentences=[sentence(curve, controls) for curve in rows if curve["role"] == "strategy"],
        figures=_figures(curves, steps),
        curves=rows,
        controls=controls[controls["scale"].isna()].to_dict("records") if len(controls) else [],
        across=_at_the_last_scale(across),
        several=curves["aggregation"].nunique() > 1,
        trials=trials.to_dict("records"),
        study_file=str(directory / "study.yaml"),
        version=semscale.__version__,
    )
    path = directory / "report.html"
    partial = path.with_name("report.html.partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(path)
    return path


def sentence(curve: dict[Any, Any], controls: pd.DataFrame) -> str:
    """Say the answer of one curve in one sentence: a gain only where it holds against its null, and against what.

    >>> curve = {"dataset": "pets", "strategy": "templates", "model": "m", "aggregation": "max", "baseline": 0.9,
    ...          "peak_p": 0.001, "peak_change": 0.02, "peak_scale": 3, "final_change": 0.01, "final_change_low": 0.004,
    ...          "final_change_high": 0.016, "trend": "rise-plateau"}
    >>> sentence(curve, pd.DataFrame()).partition(": ")[2]
    'improves by 2.0 points at scale 3 (p = 0.001), in the end +1.0 points [0.4, 1.6]; trend rise-plateau.'
    """
    aggregation = "" if curve["aggregation"] == "max" else f", {curve['aggregation']}"
    head = f"{curve['dataset']} x {curve['strategy']} ({curve['model']}{aggregation}, {100 * curve['baseline']:.1f} %)"
    if curve["peak_p"] < _SIGNIFICANT:
        gain = f"improves by {100 * curve['peak_change']:.1f} points at scale {curve['peak_scale']}"
    else:
        gain = "no scale is better than the class names beyond chance"
    final = f"{100 * curve['final_change']:+.1f} points " + _interval(
        curve["final_change_low"], curve["final_change_high"]
    )
    said = f"{gain} (p = {curve['peak_p']:.3f}), in the end {final}; trend {curve['trend']}"
    return f"{head}: {said}{_beyond_controls(curve, controls)}."


def _beyond_controls(curve: dict[Any, Any], controls: pd.DataFrame) -> str:
    if not len(controls):
        return ""
    same = (controls[list(_CURVE)] == [curve[name] for name in _CURVE]).all(axis=1)
    mine = controls[same & controls["scale"].isna()]
    parts = []
    for row in mine.to_dict("records"):
        if row["low"] > 0 or row["high"] < 0:
            word = "better" if row["low"] > 0 else "worse"
            size = f"{100 * abs(row['difference']):.1f} points {word} than"
        else:
            size = "not distinguishable from"
        parts.append(f"{size} {row['control']}")
    return "; at equal counts " + ", ".join(parts) if parts else ""


def _at_the_last_scale(across: pd.DataFrame) -> list[dict[Any, Any]]:
    if not len(across):
        return []
    last = across.groupby(list(_CURVE[1:]))["scale"].transform("max")
    return across[across["scale"] == last].to_dict("records")


def _interval(low: float, high: float) -> str:
    return f"[{100 * low:.1f}, {100 * high:.1f}]"


def _figures(curves: pd.DataFrame, steps: pd.DataFrame) -> list[dict[str, Any]]:
    roles = {tuple(row[name] for name in _CURVE): row["role"] for row in curves.to_dict("records")}
    several = curves["aggregation"].nunique() > 1
    figures = []
    for (dataset, model, aggregation), rows in steps.groupby(["dataset", "model", "aggregation"], sort=False):
        title = f"{dataset}, {model}, {aggregation}" if several else f"{dataset}, {model}"
        lines = [
            CurveLine(
                str(strategy),
                step["scale"].tolist(),
                step["accuracy"],
                step["band_low"],
                step["band_high"],
                control=roles[dataset, model, strategy, aggregation] == "control",
            )
            for strategy, step in rows.groupby("strategy", sort=False)
        ]
        # matplotlib escapes the text that it writes into the SVG
        figures.append({"title": title, "svg": Markup(curves_svg(lines, title))})
    return figures
