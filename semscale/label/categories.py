"""Categories of a labelling, from the command line or from a file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from semscale.datasets.tables.records import Record, read_delimited, read_lines
from semscale.errors import SemscaleError

_HEADERS = ("category", "categories")


def split_categories(given: str) -> tuple[tuple[str, ...], list[str]]:
    """Return the categories of a comma-separated list, and notes; quotes protect commas, as in a CSV file.

    Raises:
        SemscaleError: no category, an empty one, or a quote that does not end.

    >>> split_categories('cat, dog,"dog, large", cat')
    (('cat', 'dog', 'dog, large'), ["the category 'cat' stands in --categories more than once and counts once"])
    """
    try:
        # not strict, which forbids a space behind a closing quote
        rows = list(csv.reader([given], skipinitialspace=True))
        if given.count('"') % 2:
            raise csv.Error("a quote that does not end")
    except csv.Error as error:
        raise SemscaleError(
            "the categories are not a comma-separated list", where="--categories", found=str(error)
        ) from error
    return _checked((cell for row in rows for cell in row), "--categories")


def read_categories(path: Path) -> tuple[tuple[str, ...], list[str]]:
    """Return the categories in a file, and notes.

    A ``.txt`` file has a category per line, a ``.json`` file a list, a ``.csv`` file has them in its first column,
    whose header may be ``category``. Empty lines are skipped.

    Raises:
        SemscaleError: the file cannot be read, is of another kind, or has an empty category or none.
    """
    where = str(path)
    if path.suffix.lower() == ".txt":
        return _checked((line for line in _values(read_lines(where), where) if line.strip()), where)
    if path.suffix.lower() == ".csv":
        cells = [row[0] for row in _values(read_delimited(where, ","), where) if row]
        return _checked(cells[1:] if cells and cells[0].strip().casefold() in _HEADERS else cells, where)
    if path.suffix.lower() != ".json":
        raise SemscaleError(
            "the file with categories is of an unknown kind", where=where, expected="a .txt, .json or .csv file"
        )
    try:
        found = json.loads(path.expanduser().read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise SemscaleError("the file with categories cannot be read", where=where, found=str(error)) from error
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise SemscaleError("the file with categories holds no list of texts", where=where, found=repr(found)[:80])
    return _checked(found, where)


def _values(records: Iterator[Record], where: str) -> Iterator[str]:
    for record in records:
        if record.fault is not None:
            raise SemscaleError(
                "the file with categories cannot be read", where=f"{where}:{record.line}", found=record.fault
            )
        yield record.value


def _checked(found: Iterable[str], where: str) -> tuple[tuple[str, ...], list[str]]:
    names = [name.strip() for name in found]
    if not any(names):
        raise SemscaleError("there are no categories", where=where, expected='for example "cat,dog,bird"')
    if "" in names:
        raise SemscaleError("a category is empty", where=where, found=f"number {names.index('') + 1} of {len(names)}")
    for name in names:
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise SemscaleError("a category is not UTF-8", where=where, found=repr(name))
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    return tuple(dict.fromkeys(names)), [
        f"the category {name!r} stands in {where} more than once and counts once" for name in twice
    ]
