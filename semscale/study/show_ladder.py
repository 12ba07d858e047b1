"""What ``semscale ladder`` prints; apart from the results of sweeps, which bring all engines along."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from semscale.categories.ladder import Ladder
from semscale.redact import printable


def show_ladder(console: Console, ladder: Ladder) -> None:
    """Print for each step what it adds to the first class, and all sets of categories at the last."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("scale", justify="right")
    table.add_column("categories", justify="right")
    table.add_column("new at this step")
    seen: set[str] = set()
    for step in ladder.steps:
        new = [text for name in ladder.classes for text in step.categories[name] if text not in seen]
        seen.update(new)
        table.add_row(str(step.scale), str(step.n_categories), Text(printable(", ".join(new))))
    console.print(
        printable(f"{ladder.dataset} x {ladder.strategy}, order {ladder.order}"), highlight=False, markup=False
    )
    console.print(table)
    for note in ladder.notes:
        console.print(printable(f"note: {note}"), highlight=False, markup=False, soft_wrap=True)
