"""Output of `semscale replay`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from semscale.errors import SemscaleError
from semscale.redact import printable
from semscale.runs.published import Replay

_INTEGERS = ("critical_scale", "critical_low", "critical_high", "peak_n_categories")


def as_json(result: Replay) -> str:
    """Return `{"steps": [...], "curves": [...]}` with the rows of :class:`semscale.runs.published.Replay`."""
    return json.dumps({"steps": result.steps, "curves": result.curves}, indent=1, ensure_ascii=False)


def write_tables(result: Replay, out: Path) -> list[Path]:
    """Write the steps to the file and the curves to the one beside it with ``-curves`` in its name.

    The column `unknown` holds JSON.

    Returns:
        Both files.

    Raises:
        SemscaleError: for an ending that is neither .csv nor .parquet, and when a file cannot be written.
    """
    check_ending(out)
    steps = pd.DataFrame([row | {"unknown": json.dumps(row["unknown"], ensure_ascii=False)} for row in result.steps])
    curves = pd.DataFrame(result.curves)
    for name in _INTEGERS:
        curves[name] = curves[name].astype("Int64")  # a missing one must not turn the others into 3.0
    beside = out.with_name(f"{out.stem}-curves{out.suffix}")
    try:
        for table, target in ((steps, out), (curves, beside)):
            target.parent.mkdir(parents=True, exist_ok=True)
            if out.suffix.lower() == ".csv":
                table.to_csv(target, index=False)
            else:
                table.to_parquet(target, index=False)
    except OSError as error:
        raise SemscaleError("cannot write the table", where=str(out), found=error.strerror or str(error)) from error
    return [out, beside]


def check_ending(out: Path) -> None:
    """Refuse a file that is neither .csv nor .parquet.

    Raises:
        SemscaleError: with the ending.
    """
    if out.suffix.lower() not in (".csv", ".parquet"):
        raise SemscaleError("cannot tell the format of the table", where=str(out), expected="a .csv or .parquet file")


def show_replay(console: Console, result: Replay) -> None:
    """Print the steps, the texts that nobody offered, and the curves."""
    console.print(_steps_table(result))
    unknown = [row for row in result.steps if row["unknown"]]
    for row in unknown:
        texts = ", ".join(f"{text} ({images})" for text, images in row["unknown"].items())
        line = f"{row['dataset']} {row['family']} {row['n_categories']}: not offered, so wrong: {texts}"
        console.print(printable(line), highlight=False, markup=False, soft_wrap=True)
    for row in result.steps:
        if row["issue"]:
            line = f"{row['dataset']} {row['family']} {row['n_categories']}: {row['issue']}"
            console.print(printable(line), highlight=False, markup=False, soft_wrap=True)
    console.print()
    console.print(_curves_table(result))


def _steps_table(result: Replay) -> Table:
    table = _table(
        "dataset", "family", "categories", "scale", "images", "correct", "accuracy", "95 %", "published", "difference",
        "usable",
    )  # fmt: skip
    for row in result.steps:
        table.add_row(
            Text(printable(row["dataset"])),
            Text(printable(row["family"])),
            str(row["n_categories"]),
            str(row["scale"]),
            str(row["n_images"]),
            str(row["correct"]),
            _number(row["accuracy"]),
            _pair(row["ci_low"], row["ci_high"], ".1f"),
            _number(row["published_accuracy"]),
            _number(row["difference"], "+.2f"),
            ("yes" if row["usable"] else "no") + (" !" if row["issue"] else ""),
            style=None if row["usable"] else "dim",
        )
    return table


def _curves_table(result: Replay) -> Table:
    table = _table(
        "dataset", "family", "images", "baseline", "peak @ categories", "change", "p", "final change",
        "critical scale", "trend",
    )  # fmt: skip
    for row in result.curves:
        peak = "" if row["peak"] is None else f"{row['peak']:.2f} @ {row['peak_n_categories']}"
        critical = "" if row["trend"] is None else str(row["critical_scale"] or "open")
        table.add_row(
            Text(printable(row["dataset"])),
            Text(printable(row["family"])),
            str(row["n_images"]),
            _number(row["baseline"]),
            peak,
            _number(row["peak_change"], "+.2f"),
            _number(row["peak_p"], ".4f"),
            _number(row["final_change"], "+.2f"),
            f"{critical} {_pair(row['critical_low'], row['critical_high'], 'd')}".strip(),
            row["trend"] or "",
        )
    return table


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        words = title in ("dataset", "family", "usable", "trend")
        table.add_column(title, justify="left" if words else "right", no_wrap=words)
    return table


def _number(value: float | None, form: str = ".2f") -> str:
    return "" if value is None else format(value, form)


def _pair(low: Any, high: Any, form: str) -> str:
    return "" if low is None else f"[{format(low, form)}, {format(high, form)}]"
