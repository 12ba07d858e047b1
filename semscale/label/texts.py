"""Texts to be labelled, row after row: .csv and .tsv with a column of texts, .txt, and .jsonl."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import IO, Any, NamedTuple

from semscale.datasets.where import open_place
from semscale.errors import SemscaleError
from semscale.redact import redact

TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson")
"""Endings of files with texts."""

_COLUMN = "text"
# no text that a model reads is longer; a file without line ends must not fill the memory
_MAX_LINE = 2**20


class Row(NamedTuple):
    """A text, or the reason why there is none, and the line of the file where it begins (1 is the first)."""

    line: int
    text: str
    reason: str | None = None


def read_texts(path: str, column: str | None) -> Iterator[Row]:
    """Read the texts of a file while they are asked for.

    Of a ``.csv`` or ``.tsv`` file the column named `column` is read, or else the one named ``text``, or else the only
    one; then the first line is a text like the others, as in the original tool. Of ``.jsonl`` objects the same
    field is read; a line may also be a text by itself. What cannot be used comes with a reason: bytes that are no
    UTF-8, a row with more or fewer cells than the first, an empty text.

    Raises:
        SemscaleError: the file cannot be read, or it is not clear which column has the texts.
    """
    fs, inner = open_place(path)
    try:
        with fs.open(inner, "rb") as raw:
            yield from _rows(raw, path, column)
    except OSError as error:
        raise SemscaleError(
            "the file with texts cannot be read", where=redact(path), found=error.strerror or str(error)
        ) from error


def _rows(raw: IO[bytes], path: str, column: str | None) -> Iterator[Row]:
    # bytes that are no UTF-8 become surrogates, which show the row that has them
    file = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="")
    ending = path.partition("?")[0].lower().rpartition(".")[2]
    if ending in ("csv", "tsv"):
        found = _csv_rows(file, "\t" if ending == "tsv" else ",", redact(path), column)
    elif ending == "txt":
        found = (Row(number, line) for number, line in _lines(file))
    else:
        found = _json_rows(_lines(file), redact(path), column)
    for row in found:
        reason = row.reason or _fault(row.text)
        yield row._replace(text="" if reason else row.text, reason=reason)


def _fault(text: str) -> str | None:
    if not text.strip():
        return "the text is empty"
    if "\0" in text:
        return "the text has NUL characters: is the file UTF-8?"
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "the text is not UTF-8"
    return f"the line has {_MAX_LINE} characters or more" if len(text) >= _MAX_LINE else None


def _lines(file: io.TextIOWrapper) -> Iterator[tuple[int, str]]:
    """Yield the lines without their ends; of one that is too long only the beginning, which is too long as well."""
    number = 0
    while line := file.readline(_MAX_LINE):
        number += 1
        rest = line
        while len(rest) == _MAX_LINE and not rest.endswith(("\n", "\r")):
            rest = file.readline(_MAX_LINE)
        yield number, line.rstrip("\r\n")


def _csv_rows(file: io.TextIOWrapper, delimiter: str, where: str, column: str | None) -> Iterator[Row]:
    # strict: a quote that does not end is said, and does not make one text of the rest of the file
    reader = csv.reader((f"{line}\n" for _, line in _lines(file)), delimiter=delimiter, strict=True)
    place, width = -1, 0
    for line, cells, reason in _csv_cells(reader):
        if place < 0 and reason is None and cells:
            place, header = _choose_column(cells, column, where)
            width = len(cells)
            if header:
                continue
        if reason is None and cells and len(cells) != width:
            reason = f"the row has {len(cells)} cells where the first has {width}"
        yield Row(line, cells[place] if cells and reason is None else "", reason)


def _csv_cells(reader: Any) -> Iterator[tuple[int, list[str], str | None]]:
    while True:
        line = reader.line_num + 1
        try:
            yield line, next(reader), None
        except StopIteration:
            return
        except csv.Error as error:
            yield line, [], f"no CSV row: {error} (lines {line} to {reader.line_num})"


def _choose_column(cells: list[str], column: str | None, where: str) -> tuple[int, bool]:
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
    raise SemscaleError(
        "it is not clear which column has the texts",
        where=where,
        found=", ".join(names)[:200],
        expected=f"a column named {_COLUMN}, or a single column",
        hint="name it with --column",
    )


def _json_rows(lines: Iterable[tuple[int, str]], where: str, column: str | None) -> Iterator[Row]:
    for number, line in lines:
        if not line.strip():
            yield Row(number, "")
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Row(number, "", f"no JSON: {error}"[:200])
            continue
        if isinstance(found, dict):
            column = column or _choose_field(found, where)
            found = found.get(column)
        yield Row(number, found) if isinstance(found, str) else Row(number, "", f"no text in {column or 'the line'}")


def _choose_field(found: dict[str, Any], where: str) -> str:
    if _COLUMN in found:
        return _COLUMN
    if len(found) == 1:
        return next(iter(found))
    raise SemscaleError(
        "it is not clear which field has the texts",
        where=where,
        found=", ".join(found)[:200],
        expected=f"a field named {_COLUMN}, or a single field",
        hint="name it with --column",
    )
