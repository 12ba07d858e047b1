"""``--json``: one document on standard output, and everything else on standard error."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import click


def json_option(keys: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option `--json` of a command.

    Args:
        keys: what the document holds, for the help.
    """
    words = f"Print one JSON document, and all else to standard error. Keys: {keys}."
    return click.option("--json", "as_json", is_flag=True, help=words)


def only_json(as_json: bool) -> AbstractContextManager[Any]:
    """Return a context in which what anything prints goes to standard error, if only JSON may go to standard output."""
    return contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()


def print_json(document: Mapping[str, Any]) -> None:
    """Print a document; numbers of numpy and pandas become plain ones, and what is missing null."""
    text = json.dumps(plain(document), indent=1, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # a file name that is no text
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
