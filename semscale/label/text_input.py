"""Text input: texts to be labelled from files, and categories from files or the command line."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from semscale.common.errors import CategoryError, DatasetError
from semscale.common.files import read_regular_file
from semscale.common.filesystem import without_query
from semscale.common.parsing import parse_json
from semscale.common.redact import mask_url
from semscale.common.text import text_key
from semscale.datasets.tables import text_records
from semscale.datasets.tables.text_records import Record

TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson")
"""Endings of files with texts."""

_COLUMN = "text"


def read_texts(path: str, column: str | None) -> Iterator[Record]:
    """Yield the texts of a file lazily; a text that cannot be used has a fault.

    From ``.csv`` and ``.tsv`` the column `column` is read, else the column ``text``, else the only column, whose first
    line then is a text, as in the original tool. From ``.jsonl`` objects the same field is read; a line may also be a
    text.
    """
    ending = without_query(path).lower().rpartition(".")[2]
    if ending in ("csv", "tsv"):
        delimiter = "\t" if ending == "tsv" else text_records.detect_delimiter(path)
        rows = _column_rows(text_records.read_delimited(path, delimiter), mask_url(path), column)
    elif ending == "txt":
        rows = text_records.read_lines(path)
    else:
        rows = _field_rows(text_records.read_json_lines(path), mask_url(path), column)
    for line, text, fault in rows:
        fault = fault or (text_records.text_fault(text) if text.strip() else "the text is empty")
        yield Record(line, "" if fault else text, fault)


def _column_rows(rows: Iterator[Record], where: str, column: str | None) -> Iterator[Record]:
    index = -1
    for line, cells, fault in rows:
        if index < 0 and cells:
            names = [cell.strip() if column else cell.strip().casefold() for cell in cells]
            if (column or _COLUMN) in names:
                index = names.index(column or _COLUMN)
                continue
            if column is not None or len(cells) > 1:
                raise _no_column("column", cells, column, where)
            index = 0
        yield Record(line, cells[index] if cells else "", fault)


def _field_rows(rows: Iterator[Record], where: str, column: str | None) -> Iterator[Record]:
    for line, value, fault in rows:
        text: Any = value
        if isinstance(value, dict):
            column = column or (_COLUMN if _COLUMN in value else next(iter(value)) if len(value) == 1 else None)
            if column is None:
                raise _no_column("field", list(value), None, where)
            text = value.get(column)
        if fault is None and not isinstance(text, str):
            fault = f"no text in {column or 'the line'}"
        yield Record(line, "" if fault else text, fault)


def _no_column(kind: str, names: Sequence[str], column: str | None, where: str) -> DatasetError:
    what = f"the {kind} {column!r} does not exist" if column else f"the {kind} with the texts cannot be determined"
    found, expected = ", ".join(names)[:200], f"a {kind} named {_COLUMN}, or a single {kind}"
    return DatasetError(what, where=where, found=found, expected=expected, hint="set it with --column")


def split_categories(option: str) -> tuple[tuple[str, ...], list[str]]:
    """Return the categories of a comma-separated list, and warnings; quotes protect commas, as in a CSV file.

    >>> split_categories('cat, dog,"dog, large", cat')
    (('cat', 'dog', 'dog, large'), ["the category 'cat' is repeated in --categories and counts once"])
    """
    try:
        # not strict, which forbids a space after a closing quote
        rows = list(csv.reader([option], skipinitialspace=True))
        if option.count('"') % 2:
            raise csv.Error("an unclosed quote")
    except csv.Error as error:
        what = "the categories are not a comma-separated list"
        raise CategoryError(what, where="--categories", found=str(error)) from error
    return _checked((cell for row in rows for cell in row), "--categories")


def read_categories(path: Path) -> tuple[tuple[str, ...], list[str]]:
    """Return the categories in a file, and warnings.

    ``.txt`` has a category per line, ``.json`` a list, ``.csv`` has them in the first column, whose header may be
    ``category``. Empty lines are skipped.
    """
    where, ending = str(path), path.suffix.lower()
    if ending == ".txt":
        lines = text_records.valid_rows(text_records.read_lines(where), where)
        return _checked((line.value for line in lines if line.value.strip()), where)
    if ending == ".csv":
        read = text_records.read_delimited(where, text_records.detect_delimiter(where))
        cells = [row.value[0] for row in text_records.valid_rows(read, where)]
        return _checked(cells[1:] if cells and text_key(cells[0]) in ("category", "categories") else cells, where)
    if ending != ".json":
        what = "the format of the file with categories is not supported"
        raise CategoryError(what, where=where, expected="a .txt, .json or .csv file")
    try:
        names = parse_json(read_regular_file(path.expanduser()))
    except (OSError, ValueError) as error:
        raise CategoryError("the file with categories cannot be read", where=where, found=str(error)) from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CategoryError("the file with categories is not a list of texts", where=where, found=repr(names)[:80])
    return _checked(names, where)


def _checked(categories: Iterable[str], where: str) -> tuple[tuple[str, ...], list[str]]:
    names = [text_records.valid_text(name, where) for name in categories]
    if not any(names):
        raise CategoryError("no categories", where=where, expected='for example "cat,dog,bird"')
    if "" in names:
        raise CategoryError("a category is empty", where=where, found=f"number {names.index('') + 1} of {len(names)}")
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    warnings = [f"the category {name!r} is repeated in {where} and counts once" for name in repeated]
    return tuple(dict.fromkeys(names)), warnings
