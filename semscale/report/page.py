"""The HTML report of a run directory: one file without outside references, everything from data escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import semscale
from semscale.report.figures import CurveLine, curves_svg


def write_report(directory: Path, study: str, trials: pd.DataFrame, curves: pd.DataFrame) -> Path:
    """Write report.html into a run directory.

    Args:
        directory: the run directory.
        study: the study's name.
        trials: the table of trials.parquet.
        curves: the table of curves.parquet.

    Returns:
        The path of the file.
    """
    # class, dataset and strategy names come from outside: autoescape keeps a class named <script> harmless
    environment = Environment(
        loader=PackageLoader("semscale.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=False
    )
    page = environment.get_template("page.html").render(
        study=study,
        sentences=[sentence(curve) for curve in curves.to_dict("records")],
        figures=_figures(trials),
        curves=curves.to_dict("records"),
        trials=trials.to_dict("records"),
        study_file=str(directory / "study.yaml"),
        version=semscale.__version__,
    )
    path = directory / "report.html"
    partial = path.with_name("report.html.partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(path)
    return path


def sentence(curve: dict[Any, Any]) -> str:
    """Say the answer of one curve in one sentence.

    >>> print(sentence({"dataset": "pets", "strategy": "templates", "model": "m", "baseline": 0.9, "peak": 0.92,
    ...                 "peak_change": 0.02, "peak_scale": 3, "final_change": -0.01, "trend": "decline"})[:75])
    pets x templates (m): 90.0 % with the class names alone; best 92.0 % (+2.0
    """
    head = f"{curve['dataset']} x {curve['strategy']} ({curve['model']}): "
    start = f"{100 * curve['baseline']:.1f} % with the class names alone; "
    if curve["peak_change"] > 0:
        change = f"{100 * curve['peak_change']:+.1f} points"
        best = f"best {100 * curve['peak']:.1f} % ({change}) at scale {curve['peak_scale']}, "
    else:
        best = "no step is better, "
    return f"{head}{start}{best}in the end {100 * curve['final_change']:+.1f} points: {curve['trend']}."


def _figures(trials: pd.DataFrame) -> list[dict[str, Any]]:
    figures = []
    for (dataset, model), rows in trials.groupby(["dataset", "model"], sort=False):
        title = f"{dataset}, {model}"
        lines = [
            CurveLine(str(strategy), step["scale"].tolist(), step["accuracy"], step["ci_low"], step["ci_high"])
            for strategy, step in rows.groupby("strategy", sort=False)
        ]
        # matplotlib escapes the text that it writes into the SVG
        figures.append({"title": title, "svg": Markup(curves_svg(lines, title))})
    return figures
