"""The console that everything prints on: `NO_COLOR` is honoured, and a pipe has no width."""

from __future__ import annotations

import os
import sys

from rich.console import Console

_PIPE = 110


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
