"""Console and progress reports: bars on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from semscale.common.environment import print_every_character
from semscale.common.errors import summarize
from semscale.common.redact import printable
from semscale.common.text import counted

_PIPE_WIDTH = 110

Stage = Callable[[int, int | None], None]
"""Reports the progress of a stage: (done, total); None where the total is not known."""


def open_console(*, stderr: bool = False, least: int = 0) -> Console:
    """Return a console, at least so many columns wide, on which `NO_COLOR` (https://no-color.org) wins.

    With `NO_COLOR` in the environment nothing but text is printed, and progress in plain lines: bars move the cursor.
    """
    print_every_character()
    plain = bool(os.environ.get("NO_COLOR"))
    console = Console(stderr=stderr, force_terminal=False if plain else None)
    is_terminal = console.is_terminal or (plain and (sys.stderr if stderr else sys.stdout).isatty())
    if not is_terminal and "COLUMNS" not in os.environ:
        least = max(least, _PIPE_WIDTH)
    console.width = max(console.width, least)  # wrapped lines are easier to read than cells cut short
    return console


class Reporter:
    """Shows the progress of a sweep; this one shows nothing."""

    def stage(self, title: str, total: int | None = None, unit: str = "") -> AbstractContextManager[Stage]:
        """Open a stage; ``with reporter.stage("encoding digits", 898, "images") as advance: advance(done, total)``."""
        return nullcontext(lambda done, total: None)

    def note(self, text: str) -> None:
        """Print a line, above the bars where there are any."""

    @contextmanager
    def optional(self, what: str) -> Iterator[None]:
        """Do what only adorns the results: where it fails it is left out with a note, and the study goes on."""
        try:
            yield
        except Exception as error:  # whatever the libraries that draw and decode raise
            self.note(f"{what} left out: {summarize(error)}")


Quiet = Reporter


def reporter(console: Console, *, quiet: bool = False) -> Reporter:
    """Return the reporter that suits the console."""
    if quiet:
        return Quiet()
    # bars are drawn with characters that other encodings do not have
    return Bars(console) if console.is_terminal and console.encoding.startswith("utf") else Lines(console)


class Lines(Reporter):
    """A line every few seconds within a stage, when it is silent for many, and when it ends; for logs and pipes."""

    def __init__(self, console: Console, every: float = 5.0, silence: float = 30.0) -> None:
        self.console, self.every, self.silence = console, every, silence

    def note(self, text: str) -> None:
        """Print a line."""
        self.console.print(printable(text), highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def stage(self, title: str, total: int | None = None, unit: str = "") -> Iterator[Stage]:
        """Print the stage as plain lines."""
        start = printed = time.monotonic()
        last = 0
        first: tuple[float, int] | None = None
        over = threading.Event()

        def advance(done: int, total: int | None) -> None:
            nonlocal printed, last, first
            last, now = done, time.monotonic()
            # the time before the first one is the start of workers, and says nothing of the others
            first = first or (now, done)
            if now - printed < self.every or done == total:
                return
            printed = now
            line = f"{title}: {counted(done, unit) if total is None else f'{done}/{counted(total, unit)}'}"
            if rate := (done - first[1]) / max(now - first[0], 1e-9):
                left = "" if total is None else f", {(total - done) / rate:.0f} s left"
                line += f", {_format_rate(rate)}/s{left}"
            self.note(line)

        def reassure() -> None:
            nonlocal printed
            while not over.wait(self.silence):
                now = time.monotonic()
                if now - printed >= self.silence:
                    printed = now
                    self.note(f"{title}: {now - start:.0f} s so far")

        watch = threading.Thread(target=reassure, daemon=True)
        watch.start()
        try:
            yield advance
        finally:
            over.set()
            watch.join()
        amount = f"{counted(last, unit)}, " if last else ""
        self.note(f"{title}: done, {amount}{time.monotonic() - start:.1f} s")


class Bars(Lines):
    """A progress bar per stage with counts, rate and time left."""

    @contextmanager
    def stage(self, title: str, total: int | None = None, unit: str = "") -> Iterator[Stage]:
        """Show the stage as a bar, or as a spinner, with a count if there is a unit, when its length is not known."""
        rate_column = TextColumn("{task.fields[rate]}")
        counted = [BarColumn(), MofNCompleteColumn(), rate_column, TimeRemainingColumn()]
        endless = [TextColumn("{task.completed:.0f}"), rate_column] if unit else []
        with Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description:<34}", markup=False),
            *(counted if total is not None else endless),
            TimeElapsedColumn(),
            console=self.console,
        ) as bar:
            task = bar.add_task(printable(title), total=total, rate="")

            def advance(done: int, total: int | None) -> None:
                elapsed = bar.tasks[0].elapsed or 0.0
                rate = f"{_format_rate(done / elapsed)} {unit}/s" if elapsed > 0 else ""
                bar.update(task, completed=done, total=total, rate=rate)

            yield advance
            finished = bar.tasks[0].total or bar.tasks[0].completed or 1
            bar.update(task, total=finished, completed=finished)


def _format_rate(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"  # large models and trials have less than one a second
