"""Printing of commands: lines and tables for people, and one JSON document for programs."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from semscale.common.redact import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def say(console: Console, *lines: str) -> None:
    """Print lines as they are, without markup, colours or breaks; an empty one without any."""
    for line in lines or ("",):
        console.print(printable(line), highlight=False, markup=False, soft_wrap=True)


def make_table(titles: str, rows: Iterable[Sequence[object]]) -> Table:
    """Return a table without frames.

    Args:
        titles: of the columns, separated by `|`; those that end with `>` are of numbers, on the right.
        rows: the cells; None is an empty one.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles.split("|"):
        right = title.endswith(">")
        justify, overflow = ("right", "ellipsis") if right else ("left", "fold")
        table.add_column(title.removesuffix(">"), justify=justify, overflow=overflow, no_wrap=right)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*(Text("" if cell is None else printable(str(cell))) for cell in row))
    return table


def number(value: float | None, form: str = ".2f") -> str:
    """Return a formatted number; nothing for None or NaN."""
    return "" if value is None or math.isnan(value) else format(value, form)


def interval(low: Any, high: Any, form: str = "+.2f") -> str:
    """Return an interval, or nothing if it has no ends."""
    return "" if low is None else f"[{format(low, form)}, {format(high, form)}]"


@dataclass(frozen=True)
class Result:
    """What a command prints at its end: its JSON document or lines for people, whichever is called for; exit status."""

    document: Callable[[], Mapping[str, Any]]
    show: Callable[[], object]
    status: int = 0


def json_option(keys: str) -> Callable[[Callable[..., Result]], Callable[..., None]]:
    """Give a command that returns its result the option `--json`; the document has these keys."""
    words = f"Print one JSON document, and all else to standard error. Keys: {keys}."

    def declare(function: Callable[..., Result]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(*args: Any, as_json: bool, **options: Any) -> None:
            as_json |= options.pop("form", None) == "json"  # `replay --format json` is the same
            with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
                result = function(*args, **options)
            if as_json:
                print_json(result.document())
            else:
                result.show()
            sys.exit(result.status)

        return click.option("--json", "as_json", is_flag=True, help=words)(command)

    return declare


def print_json(document: Mapping[str, Any]) -> None:
    """Print a document; numbers of numpy and pandas become plain ones, and what is missing null."""
    text = json.dumps(plain(document), indent=1, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # a file name that is no text, or a terminal that does not have all characters
        text = json.dumps(plain(document), indent=1, allow_nan=False)
    click.echo(text)


def plain(value: Any) -> Any:
    """Return a value as JSON has it.

    >>> plain({"a": (1, float("nan")), 2: None})
    {'a': [1, None], '2': None}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "item"):  # numpy's numbers
        return plain(value.item())
    return None if str(value) in ("<NA>", "NaT") else str(value)
