"""Console, and progress on it: bars on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

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

from semscale.redact import printable

_PIPE = 110

Stage = Callable[[int, int | None], None]
"""Says how far a piece of work is: (done, total); None where the end is not known."""


def open_console(*, stderr: bool = False, least: int = 0) -> Console:
    """Return a console on standard output or error.

    With `NO_COLOR` in the environment (https://no-color.org), whatever else asks for colours, nothing but text is
    printed, and progress in plain lines: bars move the cursor.

    Args:
        stderr: on standard error.
        least: columns at least; a narrow window then wraps lines, which is easier to read than cells cut short.
    """
    plain = bool(os.environ.get("NO_COLOR"))
    console = Console(stderr=stderr, force_terminal=False if plain else None)
    is_terminal = console.is_terminal or (plain and (sys.stderr if stderr else sys.stdout).isatty())
    if not is_terminal and "COLUMNS" not in os.environ:
        least = max(least, _PIPE)
    if console.width < least:
        console.width = least
    return console


class Reporter(Protocol):
    """Shows what a sweep is doing."""

    def stage(self, title: str, total: int | None = None, unit: str = "") -> AbstractContextManager[Stage]:
        """Open a stage; ``with reporter.stage("encoding digits", 898, "images") as advance: advance(done, total)``."""
        ...

    def note(self, text: str) -> None:
        """Say one line."""
        ...


def reporter(console: Console, *, quiet: bool = False) -> Reporter:
    """Return the reporter that suits the console."""
    if quiet:
        return Quiet()
    return Bars(console) if console.is_terminal else Lines(console)


class Quiet:
    """Shows nothing."""

    @contextmanager
    def stage(self, title: str, total: int | None = None, unit: str = "") -> Iterator[Stage]:
        """Show nothing."""
        yield lambda done, total: None

    def note(self, text: str) -> None:
        """Say nothing."""


class Lines:
    """A line every few seconds as a stage goes on, and when it ends; for logs and pipes.

    Args:
        console: where to.
        every: seconds between two lines that count.
        silence: seconds after which a stage that has nothing to count says that it goes on.
    """

    def __init__(self, console: Console, every: float = 5.0, silence: float = 30.0) -> None:
        self.console = console
        self.every = every
        self.silence = silence

    @contextmanager
    def stage(self, title: str, total: int | None = None, unit: str = "") -> Iterator[Stage]:
        """Print the stage as plain lines."""
        start = spoken = time.monotonic()
        last = 0
        first: tuple[float, int] | None = None

        def advance(done: int, total: int | None) -> None:
            nonlocal spoken, last, first
            last, now = done, time.monotonic()
            # what comes before the first one is the start of workers, and says nothing of the others
            first = first or (now, done)
            if now - spoken < self.every or done == total:
                return
            spoken = now
            said = f"{title}: {done} {unit}" if total is None else f"{title}: {done}/{total} {unit}"
            rate = (done - first[1]) / max(now - first[0], 1e-9)
            if rate:
                said += f", {_number(rate)}/s"
                said += f", {(total - done) / rate:.0f} s left" if total is not None else ""
            self.note(said)

        def reassure() -> None:
            nonlocal spoken
            while not over.wait(self.silence):
                now = time.monotonic()
                if now - spoken >= self.silence:
                    spoken = now
                    self.note(f"{title}: {now - start:.0f} s so far")

        over = threading.Event()
        watch = threading.Thread(target=reassure, daemon=True)
        watch.start()
        try:
            yield advance
        finally:
            over.set()
            watch.join()
        seconds = time.monotonic() - start
        counted = f"{last} {unit}, " if last else ""
        self.note(f"{title}: done, {counted}{seconds:.1f} s")

    def note(self, text: str) -> None:
        """Print the line."""
        self.console.print(printable(text), highlight=False, markup=False, soft_wrap=True)


class Bars:
    """A progress bar per stage with counts, rate and time left."""

    def __init__(self, console: Console) -> None:
        self.console = console

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
                rate = f"{_number(done / elapsed)} {unit}/s" if elapsed > 0 else ""
                bar.update(task, completed=done, total=total, rate=rate)

            yield advance
            finished = bar.tasks[0].total or bar.tasks[0].completed or 1
            bar.update(task, total=finished, completed=finished)

    def note(self, text: str) -> None:
        """Print the line above the bars."""
        self.console.print(printable(text), highlight=False, markup=False, soft_wrap=True)


def _number(rate: float) -> str:
    """Return a rate; large models and trials have less than one a second.

    >>> _number(0.25), _number(1234.5)
    ('0.2', '1234')
    """
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"
