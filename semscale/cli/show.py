"""What commands print of studies, ladders and chosen category sets, and the JSON documents of studies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from semscale.categories.ladder import Ladder
from semscale.redact import printable
from semscale.study.rundir import CURVE_KEY

if TYPE_CHECKING:  # they import Ray and MLflow, which ladders do not need
    from semscale.encoding.folder import Folder
    from semscale.study.encode import EncodeResult
    from semscale.study.optimize import Optimized
    from semscale.study.study import SweepResult

_MOST_ROWS = 24


def _table(left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in left:
        table.add_column(title, overflow="fold")
    for title in right:
        table.add_column(title, justify="right", no_wrap=True)
    return table


def _print_line(console: Console, line: str) -> None:
    console.print(printable(line), highlight=False, markup=False, soft_wrap=True)


def show_result(console: Console, result: SweepResult) -> None:
    """Print one line per curve, then the counts and the places of the results."""
    several = {name: result.curves[name].nunique() > 1 for name in ("model", "aggregation")}
    shown = [name for name in CURVE_KEY if several.get(name, True)]
    table = _table(shown, ("images", "baseline", "peak @ scale", "change", "p", "critical"))
    if "model" in shown:
        table.columns[shown.index("model")].overflow = "ellipsis"
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
        _print_line(console, line)


def show_filled(console: Console, filled: EncodeResult) -> None:
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
        _print_line(console, line)


def _critical(curve: dict[Any, Any]) -> str:
    """Return the critical scale with its interval; the last scale stands for "there or beyond"."""
    scale = curve["critical_scale"]
    return f"{'-' if pd.isna(scale) else int(scale)} [{int(curve['critical_low'])}, {int(curve['critical_high'])}]"


def result_document(result: SweepResult) -> dict[str, Any]:
    """Return what a sweep came to.

    `run` and `report` are places; `trials` a count; `curves` the rows of curves.parquet (accuracies and changes are
    shares); `images_sent`, `texts_sent` and `quarantined` counts of this occasion; `mlflow` the line that opens the
    runs.
    """
    return {
        "run": _place(result.folder),
        "report": _place(result.folder / "report.html"),
        "mlflow": result.ui_command,
        "trials": len(result.trials),
        "images_sent": result.images_sent,
        "texts_sent": result.texts_sent,
        "quarantined": result.quarantined,
        "curves": result.curves.to_dict("records"),
    }


def filled_document(filled: EncodeResult) -> dict[str, Any]:
    """Return what filling the store came to: `run` and `store` are places, the others counts of this occasion."""
    return {
        "run": _place(filled.folder),
        "store": _place(filled.store),
        "images_sent": filled.images_sent,
        "texts_sent": filled.texts_sent,
        "quarantined": filled.quarantined,
    }


def _place(folder: Folder) -> str:
    """Return a place that is the same from every working directory."""
    return str(folder) if folder.is_remote else str(folder.local)


def show_ladder(console: Console, ladder: Ladder) -> None:
    """Print for each step what it adds to the first class, and all sets of categories at the last."""
    table = _table((), ("scale", "categories"))
    table.add_column("new at this step")
    seen: set[str] = set()
    for step in ladder.steps:
        new = [text for name in ladder.classes for text in step.categories[name] if text not in seen]
        seen.update(new)
        table.add_row(str(step.scale), str(step.n_categories), Text(printable(", ".join(new))))
    _print_line(console, f"{ladder.dataset} x {ladder.strategy}, order {ladder.order}")
    console.print(table)
    for note in ladder.notes:
        _print_line(console, f"note: {note}")


def show_optimized(console: Console, result: Optimized, out: Path | None = None) -> None:
    """Print a line per round of the search, then what the held-out half says.

    Args:
        console: where to.
        result: what was found.
        out: the file that the ladder was written to, if any.
    """
    titles = ("tried", "accuracy", "gain", "at least", "gained", "lost")
    table = _table(("round", "strategy", "best of what is left"), titles)
    table.add_column("taken")
    for number, (place, found) in enumerate(zip(result.tried, result.rounds, strict=True), start=1):
        table.add_row(
            str(number),
            Text(printable(place.strategy)),
            Text(printable(place.label)),
            str(found.candidates),
            f"{100 * found.correct / result.n_choosing:.2f} %",
            f"{100 * (found.gained - found.lost) / result.n_choosing:+.2f}",
            f"{100 * found.low:+.2f}",
            str(found.gained),
            str(found.lost),
            "yes" if found.taken else "no",
        )
    _print_line(console, "")
    _print_line(
        console,
        f"{result.dataset} x {result.model}: {result.n_places} places of {', '.join(result.strategies)}; "
        f"{result.n_choosing} images choose, {result.n_held_out} others measure, seed {result.seed}",
    )
    if result.unusable:
        _print_line(console, f"{result.unusable} images cannot be used")
    console.print(table)
    _print_line(console, "")
    values = result.held_out()
    _print_line(console, f"class names alone  {_accuracy(values, 'before')}")
    if result.chosen:
        more = f"{len(result.chosen)} more {'text' if len(result.chosen) == 1 else 'texts'} per class"
        _print_line(console, f"with {more:<13} {_accuracy(values, 'after')}")
        interval = f"[{values['gain_low']:+.2f}, {values['gain_high']:+.2f}]"
        _print_line(console, f"gain  {values['gain']:+.2f} points {interval} on images that the choice has not seen")
    else:
        _print_line(console, "no text is sure to help: the class names alone are the recommendation")
    if out is not None:
        _print_line(console, f"ladder  {out}")


def _accuracy(values: dict[str, float], name: str) -> str:
    return f"{values[name]:.2f} % [{values[f'{name}_low']:.2f}, {values[f'{name}_high']:.2f}]"


def show_work(console: Console, work: pd.DataFrame) -> None:
    """Print the share of each endpoint, node and actor, or of each endpoint and node where those are too many.

    Args:
        console: where to.
        work: of :meth:`semscale.encoding.throughput.WorkLog.table`. With one endpoint and one node nothing is printed.
    """
    if work["endpoint"].nunique() < 2 and work["node"].nunique() < 2:
        return
    columns = ["endpoint", "node", "actor"]
    if work.groupby(columns).ngroups > _MOST_ROWS:
        columns.remove("actor")
    rows = work.groupby(columns, as_index=False)[["calls", "images", "texts", "seconds"]].sum()
    table = _table(columns, ("calls", "images", "texts", "share", "rows/s"))
    everything = max(1, int(rows[["images", "texts"]].to_numpy().sum()))
    for row in rows.to_dict("records"):
        n = int(row["images"] + row["texts"])
        table.add_row(
            *(str(row[name]) for name in (*columns, "calls", "images", "texts")),
            f"{100 * n / everything:.0f} %",
            f"{n / row['seconds']:.0f}" if row["seconds"] else "-",
        )
    console.print()
    console.print(table)
