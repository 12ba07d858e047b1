"""Texts to be labelled, row by row: a column of .csv or .tsv, the lines of .txt, or a field of .jsonl."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from semscale.datasets.tables.records import Record, read_delimited, read_json_lines, read_lines, text_fault
from semscale.errors import SemscaleError
from semscale.redact import redact

TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson")
"""Endings of files with texts."""

_COLUMN = "text"


def read_texts(path: str, column: str | None) -> Iterator[Record]:
    """Yield the texts of a file while they are asked for; what cannot be used comes with its fault.

    Of a ``.csv`` or ``.tsv`` file the column named `column` is read, or else the one named ``text``, or else the only
    one; then the first line is a text like the others, as in the original tool. Of ``.jsonl`` objects the same
    field is read; a line may also be a text by itself.
    """
    ending = path.partition("?")[0].lower().rpartition(".")[2]
    if ending in ("csv", "tsv"):
        rows = _column_rows(read_delimited(path, "\t" if ending == "tsv" else ","), redact(path), column)
    elif ending == "txt":
        rows = read_lines(path)
    else:
        rows = _field_rows(read_json_lines(path), redact(path), column)
    for line, text, fault in rows:
        fault = fault or (text_fault(text) if text.strip() else "the text is empty")
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
    expected = f"a {what} named {_COLUMN}, or a single {what}"
    return SemscaleError(
        problem, where=where, found=", ".join(names)[:200], expected=expected, hint="name it with --column"
    )
