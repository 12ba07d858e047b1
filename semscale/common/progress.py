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

from semscale.common.environment import escape_unencodable_output
from semscale.common.errors import summarize
from semscale.common.redact import printable
from semscale.common.text import counted

_PIPE_WIDTH = 110

ProgressCallback = Callable[[int, int | None], None]
"""Callback for the progress of a stage: (done, total); a total that is not known is None."""


def open_console(*, stderr: bool = False, min_width: int = 0) -> Console:
    """Return a console of at least `min_width` columns, which respects `NO_COLOR` (https://no-color.org).

    With `NO_COLOR` in the environment it prints text only, and progress as lines: bars move the cursor.
    """
    escape_unencodable_output()
    plain = bool(os.environ.get("NO_COLOR"))
    console = Console(stderr=stderr, force_terminal=False if plain else None)
    is_terminal = console.is_terminal or (plain and (sys.stderr if stderr else sys.stdout).isatty())
    if not is_terminal and "COLUMNS" not in os.environ:
        min_width = max(min_width, _PIPE_WIDTH)
    console.width = max(console.width, min_width)  # wrapped lines are easier to read than cells cut short
    return console


class ProgressReporter:
    """Progress of a sweep: stages and notes. The base class shows nothing."""

    def stage(self, title: str, total: int | None = None, unit: str = "") -> AbstractContextManager[ProgressCallback]:
        """Open a stage; ``with reporter.stage("encoding digits", 898, "images") as advance: advance(done, total)``."""
        return nullcontext(lambda done, total: None)

    def note(self, text: str) -> None:
        """Print a line, above a progress bar if one is shown."""

    @contextmanager
    def optional(self, name: str) -> Iterator[None]:
        """Turn an error in the block, which makes a part of the results that a study can do without, into a note."""
        try:
            yield
        except Exception as error:  # of any kind, from the libraries that draw and decode
            self.note(f"{name} left out: {summarize(error)}")


SilentReporter = ProgressReporter
"""The base class, by the name that fits its use."""


def choose_reporter(console: Console, *, quiet: bool = False) -> ProgressReporter:
    """Return the reporter for a console: bars on a terminal, lines elsewhere, nothing if `quiet`."""
    if quiet:
        return SilentReporter()
    # other encodings lack the characters of the bars
    return BarReporter(console) if console.is_terminal and console.encoding.startswith("utf") else LineReporter(console)


class LineReporter(ProgressReporter):
    """Plain lines for logs and pipes: every few seconds within a stage, after a long silence, and when it ends."""

    def __init__(self, console: Console, every: float = 5.0, silence: float = 30.0) -> None:
        self.console, self.every, self.silence = console, every, silence

    def note(self, text: str) -> None:
        """Print a line."""
        self.console.print(printable(text), highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def stage(self, title: str, total: int | None = None, unit: str = "") -> Iterator[ProgressCallback]:
        """Print the progress of the stage as plain lines."""
        start = printed = time.monotonic()
        last_done = 0
        first: tuple[float, int] | None = None
        ended = threading.Event()

        def advance(done: int, total: int | None) -> None:
            nonlocal printed, last_done, first
            last_done, now = done, time.monotonic()
            # the rate leaves out the start of the workers, before the first item
            first = first or (now, done)
            if now - printed < self.every or done == total:
                return
            printed = now
            line = f"{title}: {counted(done, unit) if total is None else f'{done}/{counted(total, unit)}'}"
            if rate := (done - first[1]) / max(now - first[0], 1e-9):
                left = "" if total is None else f", {(total - done) / rate:.0f} s left"
                line += f", {_format_rate(rate)}/s{left}"
            self.note(line)

        def break_silence() -> None:
            nonlocal printed
            while not ended.wait(self.silence):
                now = time.monotonic()
                if now - printed >= self.silence:
                    printed = now
                    self.note(f"{title}: {now - start:.0f} s so far")

        thread = threading.Thread(target=break_silence, daemon=True)
        thread.start()
        try:
            yield advance
        finally:
            ended.set()
            thread.join()
        amount = f"{counted(last_done, unit)}, " if last_done else ""
        self.note(f"{title}: done, {amount}{time.monotonic() - start:.1f} s")


class BarReporter(LineReporter):
    """A progress bar per stage with counts, rate and time left."""

    @contextmanager
    def stage(self, title: str, total: int | None = None, unit: str = "") -> Iterator[ProgressCallback]:
        """Show the stage as a bar, or, without a total, as a spinner with a count if there is a unit."""
        rate_column = TextColumn("{task.fields[rate]}")
        bar_columns = [BarColumn(), MofNCompleteColumn(), rate_column, TimeRemainingColumn()]
        spinner_columns = [TextColumn("{task.completed:.0f}"), rate_column] if unit else []
        with Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description:<34}", markup=False),
            *(bar_columns if total is not None else spinner_columns),
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
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"  # large models and trials stay below one per second
