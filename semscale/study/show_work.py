"""Who encoded what: a table for a sweep with several endpoints or nodes."""

from __future__ import annotations

import pandas as pd
from rich.console import Console
from rich.table import Table

_MOST_ROWS = 24


def show_work(console: Console, work: pd.DataFrame) -> None:
    """Print the share of each endpoint, node and actor, or of each endpoint and node where those are too many.

    Args:
        console: where to.
        work: of :meth:`semscale.encoding.work.WorkLog.table`. With one endpoint and one node nothing is printed.
    """
    if work["endpoint"].nunique() < 2 and work["node"].nunique() < 2:
        return
    place = ["endpoint", "node", "actor"]
    if work.groupby(place).ngroups > _MOST_ROWS:
        place.remove("actor")
    rows = work.groupby(place, as_index=False)[["calls", "images", "texts", "seconds"]].sum()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in place:
        table.add_column(name, overflow="fold", justify="right" if name == "actor" else "left")
    for name in ("calls", "images", "texts", "share", "rows/s"):
        table.add_column(name, justify="right", no_wrap=True)
    everything = max(1, int(rows[["images", "texts"]].to_numpy().sum()))
    for row in rows.to_dict("records"):
        n = int(row["images"] + row["texts"])
        table.add_row(
            *(str(row[name]) for name in (*place, "calls", "images", "texts")),
            f"{100 * n / everything:.0f} %",
            f"{n / row['seconds']:.0f}" if row["seconds"] else "-",
        )
    console.print()
    console.print(table)
