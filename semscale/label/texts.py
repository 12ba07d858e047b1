"""Texts to be labelled, row by row: a column of .csv or .tsv, the lines of .txt, or a field of .jsonl."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from semscale.datasets.tables.records import Record, read_delimited, read_json_lines, read_lines
from semscale.errors import SemscaleError
from semscale.redact import redact

TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson")
"""Endings of files with texts."""

_COLUMN = "text"


class Row(NamedTuple):
    """A text, or the reason why there is none, and the line of the file where it begins (1 is the first)."""

    line: int
    text: str
    reason: str | None = None


def read_texts(path: str, column: str | None) -> Iterator[Row]:
    """Yield the texts of a file while they are asked for.

    Of a ``.csv`` or ``.tsv`` file the column named `column` is read, or else the one named ``text``, or else the only
    one; then the first line is a text like the others, as in the original tool. Of ``.jsonl`` objects the same
    field is read; a line may also be a text by itself. What cannot be used comes with a reason: bytes that are not
    UTF-8, a row with more or fewer cells than the first, an empty text.

    Raises:
        SemscaleError: the file cannot be read, or it is not clear which column has the texts.
    """
    ending = path.partition("?")[0].lower().rpartition(".")[2]
    if ending in ("csv", "tsv"):
        rows = _column_rows(read_delimited(path, "\t" if ending == "tsv" else ","), redact(path), column)
    elif ending == "txt":
        rows = (Row(*record) for record in read_lines(path))
    else:
        rows = _field_rows(read_json_lines(path), redact(path), column)
    for row in rows:
        reason = row.reason or _fault(row.text)
        yield row._replace(text="" if reason else row.text, reason=reason)


def _fault(text: str) -> str | None:
    if not text.strip():
        return "the text is empty"
    if "\0" in text:
        return "the text has NUL characters: is the file UTF-8?"
    return "the text is not UTF-8" if any("\ud800" <= character <= "\udfff" for character in text) else None


def _column_rows(records: Iterator[Record], where: str, column: str | None) -> Iterator[Row]:
    index, width = -1, 0
    for line, cells, fault in records:
        if index < 0 and cells:
            index, has_header = _choose_column(cells, column, where)
            width = len(cells)
            if has_header:
                continue
        if fault is None and cells and len(cells) != width:
            fault = f"the row has {len(cells)} cells where the first has {width}"
        yield Row(line, cells[index] if cells and fault is None else "", fault)


def _choose_column(cells: Sequence[str], column: str | None, where: str) -> tuple[int, bool]:
    """Return which column has the texts, and whether the first row is a header."""
    names = [cell.strip() for cell in cells]
    if column is not None:
        if column not in names:
            raise SemscaleError("there is no such column", where=where, found=column, expected=", ".join(names)[:200])
        return names.index(column), True
    folded = [name.casefold() for name in names]
    if _COLUMN in folded:
        return folded.index(_COLUMN), True
    if len(cells) == 1:
        return 0, False
    raise _unclear("column", names, where)


def _field_rows(records: Iterator[Record], where: str, column: str | None) -> Iterator[Row]:
    for line, value, fault in records:
        text: Any = value
        if isinstance(value, dict):
            column = column or (_COLUMN if _COLUMN in value else next(iter(value)) if len(value) == 1 else None)
            if column is None:
                raise _unclear("field", list(value), where)
            text = value.get(column)
        if fault is None and not isinstance(text, str):
            fault = f"no text in {column or 'the line'}"
        yield Row(line, "" if fault else text, fault)


def _unclear(what: str, names: Sequence[str], where: str) -> SemscaleError:
    return SemscaleError(
        f"it is not clear which {what} has the texts",
        where=where,
        found=", ".join(names)[:200],
        expected=f"a {what} named {_COLUMN}, or a single {what}",
        hint="name it with --column",
    )
