"""What `semscale optimize` prints: the search, the set, and its gain on the other half."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from semscale.redact import printable
from semscale.study.optimize import Optimized


def show_optimized(console: Console, result: Optimized, out: Path | None = None) -> None:
    """Print a line per round of the search, then what the held-out half says.

    Args:
        console: where to.
        result: what was found.
        out: the file that the ladder was written to, if any.
    """

    def say(line: str) -> None:
        console.print(printable(line), highlight=False, markup=False, soft_wrap=True)

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("round", "strategy", "best of what is left"):
        table.add_column(title, overflow="fold")
    for title in ("tried", "accuracy", "gain", "at least", "gained", "lost"):
        table.add_column(title, justify="right", no_wrap=True)
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
    say("")
    say(
        f"{result.dataset} x {result.model}: {result.n_places} places of {', '.join(result.strategies)}; "
        f"{result.n_choosing} images choose, {result.n_held_out} others measure, seed {result.seed}"
    )
    if result.unusable:
        say(f"{result.unusable} images cannot be used")
    console.print(table)
    say("")
    values = result.held_out()
    say(f"class names alone  {_accuracy(values, 'before')}")
    if result.chosen:
        more = f"{len(result.chosen)} more {'text' if len(result.chosen) == 1 else 'texts'} per class"
        say(f"with {more:<13} {_accuracy(values, 'after')}")
        interval = f"[{values['gain_low']:+.2f}, {values['gain_high']:+.2f}]"
        say(f"gain  {values['gain']:+.2f} points {interval} on images that the choice has not seen")
    else:
        say("no text is sure to help: the class names alone are the recommendation")
    if out is not None:
        say(f"ladder  {out}")


def _accuracy(values: dict[str, float], name: str) -> str:
    return f"{values[name]:.2f} % [{values[f'{name}_low']:.2f}, {values[f'{name}_high']:.2f}]"
