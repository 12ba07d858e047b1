"""Categories of a labelling, from the command line or from a file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path

from semscale.datasets.tables.records import plain_text, read_delimited, read_lines, valid_rows
from semscale.errors import SemscaleError
from semscale.text import text_key


def split_categories(given: str) -> tuple[tuple[str, ...], list[str]]:
    """Return the categories of a comma-separated list, and notes; quotes protect commas, as in a CSV file.

    >>> split_categories('cat, dog,"dog, large", cat')
    (('cat', 'dog', 'dog, large'), ["the category 'cat' stands in --categories more than once and counts once"])
    """
    try:
        # not strict, which forbids a space behind a closing quote
        rows = list(csv.reader([given], skipinitialspace=True))
        if given.count('"') % 2:
            raise csv.Error("a quote that does not end")
    except csv.Error as error:
        what = "the categories are not a comma-separated list"
        raise SemscaleError(what, where="--categories", found=str(error)) from error
    return _checked((cell for row in rows for cell in row), "--categories")


def read_categories(path: Path) -> tuple[tuple[str, ...], list[str]]:
    """Return the categories in a file, and notes.

    A ``.txt`` file has a category per line, a ``.json`` file a list, a ``.csv`` file has them in its first column,
    whose header may be ``category``. Empty lines are skipped.
    """
    where, ending = str(path), path.suffix.lower()
    if ending == ".txt":
        return _checked((line.value for line in valid_rows(read_lines(where), where) if line.value.strip()), where)
    if ending == ".csv":
        cells = [row.value[0] for row in valid_rows(read_delimited(where, ","), where)]
        return _checked(cells[1:] if cells and text_key(cells[0]) in ("category", "categories") else cells, where)
    if ending != ".json":
        what = "the file with categories is of an unknown kind"
        raise SemscaleError(what, where=where, expected="a .txt, .json or .csv file")
    try:
        names = json.loads(path.expanduser().read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise SemscaleError("the file with categories cannot be read", where=where, found=str(error)) from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SemscaleError("the file with categories holds no list of texts", where=where, found=repr(names)[:80])
    return _checked(names, where)


def _checked(given: Iterable[str], where: str) -> tuple[tuple[str, ...], list[str]]:
    names = [plain_text(name, where) for name in given]
    if not any(names):
        raise SemscaleError("there are no categories", where=where, expected='for example "cat,dog,bird"')
    if "" in names:
        raise SemscaleError("a category is empty", where=where, found=f"number {names.index('') + 1} of {len(names)}")
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    notes = [f"the category {name!r} stands in {where} more than once and counts once" for name in twice]
    return tuple(dict.fromkeys(names)), notes
