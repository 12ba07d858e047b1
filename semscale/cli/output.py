"""Output of commands: lines and tables, or one JSON document."""

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


def print_lines(console: Console, *lines: str) -> None:
    """Print lines verbatim, without markup, colours or line breaks; without arguments an empty line."""
    for line in lines or ("",):
        console.print(printable(line), highlight=False, markup=False, soft_wrap=True)


def make_table(titles: str, rows: Iterable[Sequence[object]]) -> Table:
    """Return a table without frames.

    Args:
        titles: titles of the columns, separated by `|`; a column whose title ends with `>` is right-aligned.
        rows: the cells; None is an empty cell.
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
    """Format a number; None and NaN as an empty text."""
    return "" if value is None or math.isnan(value) else format(value, form)


def interval(low: Any, high: Any, form: str = "+.2f") -> str:
    """Format an interval; without ends as an empty text."""
    return "" if low is None else f"[{format(low, form)}, {format(high, form)}]"


@dataclass(frozen=True)
class Result:
    """Result of a command: functions that return its JSON document and print it as text, and the exit status."""

    document: Callable[[], Mapping[str, Any]]
    show: Callable[[], object]
    status: int = 0


def json_option(keys: str) -> Callable[[Callable[..., Result]], Callable[..., None]]:
    """Add the option `--json` to a command that returns its result; the help names the document's keys."""
    text = f"Print one JSON document, everything else to standard error. Keys: {keys}."

    def declare(function: Callable[..., Result]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(*args: Any, as_json: bool, **options: Any) -> None:
            as_json |= options.pop("form", None) == "json"  # replay --format json
            with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
                result = function(*args, **options)
            if as_json:
                print_json(result.document())
            else:
                result.show()
            sys.exit(result.status)

        return click.option("--json", "as_json", is_flag=True, help=text)(command)

    return declare


def print_json(document: Mapping[str, Any]) -> None:
    """Print a document as JSON, with numbers of numpy and pandas as plain ones and missing values as null."""
    text = json.dumps(to_json_value(document), indent=1, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # an undecodable file name, or a terminal without all characters
        text = json.dumps(to_json_value(document), indent=1, allow_nan=False)
    click.echo(text)


def to_json_value(value: Any) -> Any:
    """Convert a value to the types of JSON.

    >>> to_json_value({"a": (1, float("nan")), 2: None})
    {'a': [1, None], '2': None}
    """
    if isinstance(value, Mapping):
        return {str(key): to_json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json_value(item) for item in value]
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "item"):  # numpy scalars
        return to_json_value(value.item())
    return None if str(value) in ("<NA>", "NaT") else str(value)
