"""Texts to be labelled, from files, and categories, from files or the command line."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from semscale.common.errors import DatasetError, SemscaleError
from semscale.common.files import read_regular
from semscale.common.filesystem import without_query
from semscale.common.parsing import parse_json
from semscale.common.redact import redact
from semscale.common.text import text_key
from semscale.datasets.tables import text_records
from semscale.datasets.tables.text_records import Record

TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson")
"""Endings of files with texts."""

_COLUMN = "text"


def read_texts(path: str, column: str | None) -> Iterator[Record]:
    """Yield the texts of a file while they are asked for; what cannot be used comes with its fault.

    Of a ``.csv`` or ``.tsv`` file the column named `column` is read, or else the one named ``text``, or else the only
    one; then the first line is a text like the others, as in the original tool. Of ``.jsonl`` objects the same
    field is read; a line may also be a text by itself.
    """
    ending = without_query(path).lower().rpartition(".")[2]
    if ending in ("csv", "tsv"):
        mark = "\t" if ending == "tsv" else text_records.find_separator(path)
        rows = _column_rows(text_records.read_delimited(path, mark), redact(path), column)
    elif ending == "txt":
        rows = text_records.read_lines(path)
    else:
        rows = _field_rows(text_records.read_json_lines(path), redact(path), column)
    for line, text, fault in rows:
        fault = fault or (text_records.text_fault(text) if text.strip() else "the text is empty")
        yield Record(line, "" if fault else text, fault)


def _column_rows(rows: Iterator[Record], where: str, column: str | None) -> Iterator[Record]:
    index = -1
    for line, cells, fault in rows:
        if index < 0 and cells:
            names = [cell.strip() if column else cell.strip().casefold() for cell in cells]
            wanted = column or _COLUMN
            if wanted in names:
                index = names.index(wanted)
                continue
            if column is not None or len(cells) > 1:
                raise _unclear("column", cells, column, where)
            index = 0
        yield Record(line, cells[index] if cells else "", fault)


def _field_rows(rows: Iterator[Record], where: str, column: str | None) -> Iterator[Record]:
    for line, value, fault in rows:
        text: Any = value
        if isinstance(value, dict):
            column = column or (_COLUMN if _COLUMN in value else next(iter(value)) if len(value) == 1 else None)
            if column is None:
                raise _unclear("field", list(value), None, where)
            text = value.get(column)
        if fault is None and not isinstance(text, str):
            fault = f"no text in {column or 'the line'}"
        yield Record(line, "" if fault else text, fault)


def _unclear(what: str, names: Sequence[str], wanted: str | None, where: str) -> SemscaleError:
    problem = f"there is no {what} {wanted!r}" if wanted else f"it is not clear which {what} has the texts"
    found, expected = ", ".join(names)[:200], f"a {what} named {_COLUMN}, or a single {what}"
    return DatasetError(problem, where=where, found=found, expected=expected, hint="name it with --column")


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
        raise DatasetError(what, where="--categories", found=str(error)) from error
    return _checked((cell for row in rows for cell in row), "--categories")


def read_categories(path: Path) -> tuple[tuple[str, ...], list[str]]:
    """Return the categories in a file, and notes.

    A ``.txt`` file has a category per line, a ``.json`` file a list, a ``.csv`` file has them in its first column,
    whose header may be ``category``. Empty lines are skipped.
    """
    where, ending = str(path), path.suffix.lower()
    if ending == ".txt":
        lines = text_records.valid_rows(text_records.read_lines(where), where)
        return _checked((line.value for line in lines if line.value.strip()), where)
    if ending == ".csv":
        read = text_records.read_delimited(where, text_records.find_separator(where))
        cells = [row.value[0] for row in text_records.valid_rows(read, where)]
        return _checked(cells[1:] if cells and text_key(cells[0]) in ("category", "categories") else cells, where)
    if ending != ".json":
        what = "the file with categories is of an unknown kind"
        raise DatasetError(what, where=where, expected="a .txt, .json or .csv file")
    try:
        names = parse_json(read_regular(path.expanduser()))
    except (OSError, ValueError) as error:
        raise DatasetError("the file with categories cannot be read", where=where, found=str(error)) from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DatasetError("the file with categories holds no list of texts", where=where, found=repr(names)[:80])
    return _checked(names, where)


def _checked(given: Iterable[str], where: str) -> tuple[tuple[str, ...], list[str]]:
    names = [text_records.plain_text(name, where) for name in given]
    if not any(names):
        raise DatasetError("there are no categories", where=where, expected='for example "cat,dog,bird"')
    if "" in names:
        raise DatasetError("a category is empty", where=where, found=f"number {names.index('') + 1} of {len(names)}")
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    notes = [f"the category {name!r} stands in {where} more than once and counts once" for name in twice]
    return tuple(dict.fromkeys(names)), notes
