"""Output of ``semscale compare``."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from semscale.redact import printable
from semscale.runs.compare import Compared
from semscale.runs.pairs import POINTS, Row


def show_compared(console: Console, found: Compared) -> None:
    """Print the runs, what differs between them, their curves, and the differences."""

    def say(line: str = "") -> None:
        console.print(printable(line), highlight=False, markup=False, soft_wrap=True)

    for run in found.runs:
        say(f"{run.letter}  {run.folder}")
    say()
    console.print(_settings(found))
    if found.same:
        say(f"the same: {', '.join(found.same)}")
    say()
    console.print(_curves(found.curves))
    for letter, names in found.alone.items():
        if names:
            say(f"only in {letter}: {', '.join(names)}")
    for kind in (True, False):
        rows = [row for row in found.comparisons if row["paired"] is kind]
        if rows:
            say()
            say(_title(kind, found.n_tests))
            console.print(_differences(rows, paired=kind))
    for line in dict.fromkeys(_images(row) for row in found.comparisons if not row["paired"]):
        say(line)
    others = dict.fromkeys(row["curve"] for row in found.comparisons if not row["same_sets"])
    if others:
        say(f"other categories at the last common scale: {', '.join(others)}")
    if not found.comparisons:
        say()
        say("no curve is in the first run and in another one")


def _title(paired: bool, n_tests: int) -> str:
    if not paired:
        return "differences in points, the later run less the first, of different images (95 % interval of two samples)"
    tests = f"Holm over {n_tests} tests" if n_tests > 1 else "one test"
    test = f"95 % interval, exact McNemar; {tests}"
    return f"differences in points, the later run less the first, on the same images ({test})"


def _images(row: Row) -> str:
    return (
        f"{row['dataset']}: not the same images in {row['run']} ({row['images']}) and {row['other_run']} "
        f"({row['other_images']}); {row['common_images']} are in both"
    )


def _settings(found: Compared) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("what differs" if found.differs else "no setting differs", overflow="fold")
    for run in found.runs:
        table.add_column(run.letter, overflow="fold")
    for name, values in found.differs.items():
        table.add_row(*(Text(printable("-" if value is None else value)) for value in (name, *values)))
    return table


def _curves(rows: Sequence[Row]) -> Table:
    table = _table(("", "curve"), ("images", "baseline", "peak @ scale", "change", "critical"), ("trend",))
    before = None
    for row in rows:
        name = "" if row["curve"] == before else row["curve"]
        before = row["curve"]
        table.add_row(
            row["run"],
            Text(printable(name)),
            str(row["n_images"]),
            f"{100 * row['baseline']:.2f} %",
            f"{100 * row['peak']:.2f} % @ {row['peak_scale']}",
            _points(row["peak_change"], row["peak_change_low"], row["peak_change_high"]),
            f"{'-' if pd.isna(row['critical_scale']) else int(row['critical_scale'])} "
            f"[{int(row['critical_low'])}, {int(row['critical_high'])}]",
            row["trend"],
        )
    return table


def _differences(rows: Sequence[Row], *, paired: bool) -> Table:
    table = _table(("curve", "at"), ("", "", "difference", *(("gained", "lost", "p", "p Holm") if paired else ())), ())
    before = None
    for row in rows:
        place = (row["curve"], row["other_run"])
        table.add_row(
            Text(printable("" if place == before else row["curve"])),
            row["at"] if row["at"] != POINTS[1] else f"scale {row['scale']}",
            *(
                f"{row[side]} {100 * row[value]:.2f} %" + (f" @ {row[scale]}" if row["at"] == POINTS[2] else "")
                for side, value, scale in (("run", "accuracy", "scale"), ("other_run", "other_accuracy", "other_scale"))
            ),
            _points(row["difference"], row["low"], row["high"]),
            *((_count(row["gained"]), _count(row["lost"]), _p(row["p"]), _p(row["p_holm"])) if paired else ()),
        )
        before = place
    return table


def _table(left: Sequence[str], right: Sequence[str], after: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in left:
        table.add_column(title, overflow="fold")
    for title in right:
        table.add_column(title, justify="right", no_wrap=True)
    for title in after:
        table.add_column(title)
    return table


def _points(value: float, low: float, high: float) -> str:
    return f"{100 * value:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)


def _p(value: float) -> str:
    return "<0.001" if value < 0.0005 else f"{value:.3f}"
