"""Output of `semscale label`: the first lines of the statistics, counts, and where the files are."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table
from rich.text import Text

from semscale.label.results import QUARANTINE, RESULTS, STATISTICS
from semscale.label.run import Labelled
from semscale.redact import printable

_SHOWN = 12


def show_labelled(console: Console, result: Labelled) -> None:
    """Print the result of a labelling."""

    def say(line: str) -> None:
        console.print(printable(line), highlight=False, markup=False, soft_wrap=True)

    columns = ["fraction", "average_dot_product", "variance"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("category", overflow="fold")
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right", no_wrap=True)
    table.add_column("second best category", overflow="fold")
    for row in result.statistics.fillna({"second_best_category": ""}).head(_SHOWN).to_dict("records"):
        names = [Text(printable(row[column])) for column in ("category", "second_best_category")]
        numbers = [_number(row[column], ".2e" if column == "variance" else ".4f") for column in columns]
        table.add_row(names[0], *numbers, names[1])
    say("")
    console.print(table)
    if len(result.statistics) > _SHOWN:
        say(f"... and {len(result.statistics) - _SHOWN} more categories")
    say("")
    counts = f"{result.n_labelled} {result.kind}s labelled, {result.n_bad} cannot be used"
    say(f"{counts}; sent to the server: {result.sent}")
    say(f"results     {result.folder / RESULTS}")
    if result.wrote_statistics:
        say(f"statistics  {result.folder / STATISTICS}")
    if result.n_bad:
        say(f"quarantine  {result.folder / QUARANTINE}")


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)
