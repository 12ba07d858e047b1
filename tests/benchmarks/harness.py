"""Benchmark harness: a process per benchmark, interleaved rounds, and rows held against their targets."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Row:
    """One measured figure: median, lowest and highest over the rounds; `meets` is None without a target."""

    measure: str
    target: str
    median: float
    low: float
    high: float
    meets: bool | None


def row(measure: str, values: Sequence[float], *, most: float | None = None, least: float | None = None) -> Row:
    """Return the row of a figure that should be at most `most` or at least `least`.

    >>> row("time", [1.0, 3.0, 1.1], most=1.2)
    Row(measure='time', target='<= 1.2', median=1.1, low=1.0, high=3.0, meets=True)
    """
    median = statistics.median(values)
    if most is not None:
        target, meets = f"<= {most:g}", median <= most
    elif least is not None:
        target, meets = f">= {least:g}", median >= least
    else:
        target, meets = "", None
    return Row(measure, target, median, min(values), max(values), meets)


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Return the quotient of each round."""
    return [x / y for x, y in zip(above, below, strict=True)]


def seconds_of(work: Callable[[], object]) -> float:
    """Return the wall-clock seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def interleave(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time every way once per round, so that other load on the machine affects all of them alike."""
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, work in ways.items():
            taken[way].append(seconds_of(work))
    return taken


def markdown(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| measure | target | median (lowest to highest) | meets |", "|---|---|---|---|"]
    for each in rows:
        meets = {True: "yes", False: "no", None: ""}[each.meets]
        values = [f"{value:,.{2 if value < 100 else 0}f}" for value in (each.median, each.low, each.high)]
        spread = f" ({values[1]} to {values[2]})" if each.low < each.high else ""
        lines.append(f"| {each.measure} | {each.target} | {values[0]}{spread} | {meets} |")
    return "\n".join(lines)


def run(part: str, quick: bool) -> list[Row]:
    """Run a benchmark in a process of its own: its threads, its Ray and its crash touch no other."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=_output_to_stderr) as pool:
        rows = pool.submit(_measure, part, quick).result()
    # at quick sizes the fixed costs rule, and no target applies
    return [replace(row, measure=f"{part}: {row.measure}", meets=None if quick else row.meets) for row in rows]


def _measure(part: str, quick: bool) -> list[Row]:
    rows: list[Row] = importlib.import_module(f"{__package__}.{part}").measure(quick)
    return rows


def _output_to_stderr() -> None:
    os.dup2(2, 1)
