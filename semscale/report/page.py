"""The HTML report of a run directory: one file without outside references, everything from data escaped."""

from __future__ import annotations

import base64
import gzip
import hashlib
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import semscale
from semscale.report.answers import CURVE, answer
from semscale.report.charts import change_panels, curve_chart, map_chart, series_colors
from semscale.report.evidence import Evidence
from semscale.report.shown import shown_curves

_MOST_TRIALS = 600
_MOST_QUARANTINED = 50


def write_report(
    directory: Path,
    study: str,
    trials: pd.DataFrame,
    curves: pd.DataFrame,
    steps: pd.DataFrame,
    controls: pd.DataFrame,
    across: pd.DataFrame,
    evidence: Evidence | None = None,
) -> Path:
    """Write report.html into a run directory.

    Args:
        directory: the run directory.
        study: the study's name.
        trials, curves, steps, controls, across: the tables of the run directory; the last two may be empty.
        evidence: what else is shown; a run of an older semscale has none.

    Returns:
        The path of the file.
    """
    evidence = evidence or Evidence()
    # class, dataset and strategy names come from outside: autoescape keeps a class named <script> harmless
    environment = Environment(
        loader=PackageLoader("semscale.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    rows = curves.to_dict("records")
    ours = [curve for curve in rows if curve["role"] != "control"]
    models = curves["model"].nunique() > 1
    answers = [answer(curve, steps, controls, several=models) for curve in ours]
    panels = _panels(curves, steps)
    several = curves["aggregation"].nunique() > 1
    colors = series_colors(curves)
    figures, small, maps = _charts(panels, curves, steps, evidence.points, colors)
    page = environment.get_template("page.html").render(
        study=study,
        answers=answers,
        series=[(name, color, color.startswith("var(--c")) for name, color in colors.items()],
        figures=figures,
        small=small,
        maps=maps,
        specs={one["id"]: one["spec"] for one in (*figures, *small, *maps)},
        shown=shown_curves(evidence, ours, [found.head for found in answers]),
        curves=rows,
        controls=controls[controls["scale"].isna()].to_dict("records") if len(controls) else [],
        across=_at_the_last_scale(across),
        several=several,
        models=models,
        trials=trials.head(_MOST_TRIALS).to_dict("records"),
        n_trials=len(trials),
        quarantine=evidence.quarantine.head(_MOST_QUARANTINED).to_dict("records"),
        n_quarantined=len(evidence.quarantine),
        categories=evidence.categories,
        environment=evidence.environment,
        margin=evidence.environment.get("margin", 0.5),
        study_file=str(directory / "study.yaml"),
        version=semscale.__version__,
        style=Markup(_asset("page.css")),
        vega=Markup(_vega()),
        script=Markup(_asset("page.js")),
        allowed=" ".join(_digest(text) for text in (_vega(), _asset("page.js"))),
    )
    path = directory / "report.html"
    partial = path.with_name("report.html.partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(path)
    return path


@lru_cache
def _asset(name: str) -> str:
    return (files("semscale.report") / name).read_text(encoding="utf-8").rstrip("\n")


@lru_cache
def _vega() -> str:
    return gzip.decompress((files("semscale.report") / "vega.js.gz").read_bytes()).decode()


def _digest(script: str) -> str:
    """Return how the page's content security policy names a script: no other one runs, wherever it came from."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _panels(curves: pd.DataFrame, steps: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    several = curves["aggregation"].nunique() > 1
    models = curves["model"].nunique() > 1
    panels = []
    for (dataset, model, aggregation), rows in steps.groupby(["dataset", "model", "aggregation"], sort=False):
        title = [dataset, *([model] if models else []), *([aggregation] if several else [])]
        panels.append((", ".join(map(str, title)), rows))
    return panels


def _charts(
    panels: list[tuple[str, pd.DataFrame]],
    curves: pd.DataFrame,
    steps: pd.DataFrame,
    points: pd.DataFrame,
    colors: dict[str, str],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    figures: list[dict[str, Any]] = []
    ours = curves[curves["role"] != "control"]
    for number, (title, rows) in enumerate(panels):
        mine = ours[
            (
                ours[["dataset", "model", "aggregation"]] == rows.iloc[0][["dataset", "model", "aggregation"]].tolist()
            ).all(axis=1)
        ]
        critical = dict(zip(mine["strategy"], mine["critical_scale"], strict=True))
        figures.append({"id": f"curve{number}", "title": title, "spec": curve_chart(rows, critical, colors)})
    small: list[dict[str, Any]] = []
    if len(panels) > 1:
        specs = change_panels(steps, [rows for _, rows in panels], colors)
        small = [
            {"id": f"small{number}", "title": title, "spec": spec}
            for number, ((title, _), spec) in enumerate(zip(panels, specs, strict=True))
        ]
    maps: list[dict[str, Any]] = []
    if len(points):
        models = curves["model"].nunique() > 1
        for number, ((dataset, model), rows) in enumerate(points.groupby(["dataset", "model"], sort=False)):
            counts = rows["kind"].value_counts()
            maps.append(
                {
                    "id": f"map{number}",
                    "title": f"{dataset}, {model}" if models else str(dataset),
                    "images": int(counts.get("image", 0)),
                    "texts": int(counts.get("category", 0)),
                    "strategy": rows["strategy"].iloc[0],
                    "variance": float(rows["variance"].iloc[0]),
                    "spec": map_chart(rows),
                }
            )
    return figures, small, maps


def _at_the_last_scale(across: pd.DataFrame) -> list[dict[Any, Any]]:
    if not len(across):
        return []
    last = across.groupby(list(CURVE[1:]))["scale"].transform("max")
    return across[across["scale"] == last].to_dict("records")
