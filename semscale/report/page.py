"""HTML report of a run directory: one self-contained file without external references; all data are escaped."""

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
from semscale.common.files import atomic_write
from semscale.report.charts import change_panels, curve_chart, map_chart, series_colors
from semscale.report.evidence import Evidence, RunTables, changed_curves
from semscale.report.headlines import CURVE_KEY, headline

_MOST_TRIALS = 600
_MOST_QUARANTINED = 50
Chart = dict[str, Any]


def write_report(directory: Path, study: str, tables: RunTables, evidence: Evidence) -> Path:
    """Write report.html of the study into a run directory, and return its path."""
    # names of classes, datasets and strategies are untrusted: autoescape keeps a class named <script> harmless
    environment = Environment(
        loader=PackageLoader("semscale.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    curves, controls, across = tables.curves, tables.controls, tables.across
    rows = curves.to_dict("records")
    strategy_curves = [curve for curve in rows if curve["role"] != "control"]
    varying = [name for name in ("model", "aggregation") if curves[name].nunique() > 1]
    several_models = "model" in varying
    headlines = [headline(curve, tables.steps, controls, several=several_models) for curve in strategy_curves]
    colors = series_colors(curves)
    figures, small = _curve_charts(tables, colors, varying)
    maps = _maps(evidence.points, several_models)
    page = environment.get_template("page.html").render(
        study=study,
        headlines=headlines,
        series=[(name, color, color.startswith("var(--c")) for name, color in colors.items()],
        figures=figures,
        small=small,
        maps=maps,
        specs={chart["id"]: chart["spec"] for chart in (*figures, *small, *maps)},
        changes=changed_curves(evidence, strategy_curves, [line.curve for line in headlines]),
        curves=rows,
        controls=controls[controls["scale"].isna()].to_dict("records") if len(controls) else [],
        across=_at_last_scale(across),
        several_aggregations="aggregation" in varying,
        several_models=several_models,
        trials=tables.trials.head(_MOST_TRIALS).to_dict("records"),
        n_trials=len(tables.trials),
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
    with atomic_write(path) as partial:
        partial.write_text(page, encoding="utf-8")
    return path


@lru_cache
def _asset(name: str) -> str:
    return (files("semscale.report") / name).read_text(encoding="utf-8").rstrip("\n")


@lru_cache
def _vega() -> str:
    return gzip.decompress((files("semscale.report") / "vega.js.gz").read_bytes()).decode()


def _digest(script: str) -> str:
    """Return the hash by which the page's content security policy admits a script; no other script runs."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _curve_charts(tables: RunTables, colors: dict[str, str], varying: list[str]) -> tuple[list[Chart], list[Chart]]:
    """Return a chart per dataset, model and aggregation, and the small multiples where there are several charts."""
    titles, panels, figures = [], [], []
    strategies = tables.curves[tables.curves["role"] != "control"]
    for key, rows in tables.steps.groupby(["dataset", "model", "aggregation"], sort=False):
        panel = dict(zip(("dataset", "model", "aggregation"), key, strict=True))
        shown = strategies[(strategies[list(panel)] == list(key)).all(axis=1)]
        titles.append(", ".join(str(panel[name]) for name in ("dataset", *varying)))
        panels.append(rows)
        figures.append(curve_chart(rows, dict(zip(shown["strategy"], shown["critical_scale"], strict=True)), colors))
    small = change_panels(tables.steps, panels, colors) if len(panels) > 1 else []
    return _charts("curve", titles, figures), _charts("small", titles[: len(small)], small)


def _charts(name: str, titles: list[str], specs: list[Chart]) -> list[Chart]:
    pairs = enumerate(zip(titles, specs, strict=True))
    return [{"id": f"{name}{number}", "title": title, "spec": spec} for number, (title, spec) in pairs]


def _maps(points: pd.DataFrame, several_models: bool) -> list[Chart]:
    groups = list(points.groupby(["dataset", "model"], sort=False)) if len(points) else []
    titles = [f"{dataset}, {model}" if several_models else str(dataset) for (dataset, model), _ in groups]
    maps = _charts("map", titles, [map_chart(rows) for _, rows in groups])
    for chart, (_, rows) in zip(maps, groups, strict=True):
        counts, first = rows["kind"].value_counts(), rows.iloc[0]
        chart |= {"images": int(counts.get("image", 0)), "texts": int(counts.get("category", 0))}
        chart |= {"strategy": first["strategy"], "variance": float(first["variance"])}
    return maps


def _at_last_scale(across: pd.DataFrame) -> list[dict[Any, Any]]:
    if not len(across):
        return []
    last = across.groupby(list(CURVE_KEY[1:]))["scale"].transform("max")
    return across[across["scale"] == last].to_dict("records")
