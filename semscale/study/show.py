"""What a sweep prints when it is done: the table of curves, and where everything is."""

from __future__ import annotations

from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from semscale.redact import printable
from semscale.study.fill import Filled
from semscale.study.rundir import CURVE_KEY
from semscale.study.show_work import show_work
from semscale.study.study import SweepResult


def show_result(console: Console, result: SweepResult) -> None:
    """Print one line per curve, then the counts and the places of the results."""
    several = {name: result.curves[name].nunique() > 1 for name in ("model", "aggregation")}
    shown = [name for name in CURVE_KEY if several.get(name, True)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in shown:
        table.add_column(name, overflow="ellipsis" if name == "model" else "fold")
    for title in ("images", "baseline", "peak @ scale", "change", "p", "critical"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("trend", min_width=7)
    for curve in result.curves.to_dict("records"):
        table.add_row(
            *(Text(printable(str(curve[name]))) for name in shown),
            str(curve["n_images"]),
            f"{100 * curve['baseline']:.2f} %",
            f"{100 * curve['peak']:.2f} % @ {curve['peak_scale']}",
            f"{100 * curve['peak_change']:+.2f}",
            f"{curve['peak_p']:.3f}",
            _critical(curve),
            str(curve["trend"]),
        )
    console.print()
    console.print(table)
    show_work(console, result.work)
    console.print()
    lines = [
        f"{len(result.trials)} trials, {len(result.curves)} curves; "
        f"sent to the server: {result.images_sent} images, {result.texts_sent} texts",
        *([f"{result.quarantined} images in quarantine.csv"] if result.quarantined else []),
        f"results  {result.folder}",
        f"report   {result.folder / 'report.html'}",
        f"MLflow   {result.ui_command}",
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def show_filled(console: Console, filled: Filled) -> None:
    """Print what filling the store came to."""
    show_work(console, filled.work)
    console.print()
    lines = [
        f"sent to the server: {filled.images_sent} images, {filled.texts_sent} texts",
        *([f"{filled.quarantined} images in quarantine.csv"] if filled.quarantined else []),
        f"run      {filled.folder}",
        f"store    {filled.store}",
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _critical(curve: dict[Any, Any]) -> str:
    """Return the critical scale with its interval; the last scale stands for "there or beyond"."""
    scale = curve["critical_scale"]
    return f"{'-' if pd.isna(scale) else int(scale)} [{int(curve['critical_low'])}, {int(curve['critical_high'])}]"
