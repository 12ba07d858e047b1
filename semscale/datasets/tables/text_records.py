"""Streaming reader of text, CSV, TSV and JSON lines, and of what their cells mean, for tables and texts to be labelled.

It uses ``csv`` and ``json`` of the standard library, because pyarrow's CSV reader takes the rest of a file for one cell
where a quote is left open, and counts rows instead of lines.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from io import BufferedReader, TextIOWrapper
from itertools import islice
from typing import Any, NamedTuple

from semscale.common.errors import DatasetError
from semscale.common.filesystem import is_missing, open_file, plain_reason
from semscale.common.parsing import parse_json
from semscale.common.redact import shown

MAX_LINE = 2**20
"""Characters that are kept of a line: a file without line ends must not fill the memory."""

INLINE = "data:"
"""What the name of an image begins with that is in the cell itself."""

_SURROGATE = re.compile("[\ud800-\udfff]")


class Record(NamedTuple):
    """Number of the first line of a row (1 is the first), its text, cells or JSON value, and why it cannot be read."""

    line: int
    value: Any
    fault: str | None = None


def read_lines(path: str) -> Iterator[Record]:
    """Yield the lines of a UTF-8 file without their ends; bytes that are not UTF-8 become surrogates."""
    try:
        # buffered, because fsspec's own readline seeks, which a server without ranges does not allow
        opened: Any = open_file(path)
        raw = BufferedReader(opened, 2**20)
        with TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            number = 0
            while line := file.readline(MAX_LINE):
                number += 1
                rest = line
                while len(rest) == MAX_LINE and not rest.endswith(("\n", "\r")):
                    rest = file.readline(MAX_LINE)
                fault = f"the line has {MAX_LINE} characters or more" if len(line) == MAX_LINE else None
                yield Record(number, line.rstrip("\r\n"), fault)
    except Exception as error:  # the packages behind fsspec raise nearly anything
        if is_missing(error):
            raise DatasetError("the file does not exist", where=shown(path)) from error
        raise DatasetError("the file cannot be read", where=shown(path), found=plain_reason(error)) from error


def find_separator(path: str) -> str:
    """Return what separates the columns of a CSV file: a comma, or what cuts all its first rows into as many cells."""
    for mark in ",;\t":
        rows = list(islice(read_delimited(path, mark), 20))
        even = len(rows) > 1 and not any(row.fault for row in rows)
        if rows and len(rows[0].value) > 1 and (mark == "," or even):
            return mark
    return ","


def read_delimited(path: str, delimiter: str, *, skip_spaces: bool = False) -> Iterator[Record]:
    r"""Yield the rows of a CSV or TSV file, all as long as the first; a line end in quotes becomes ``\n``."""
    last_cut = width = 0

    def lines() -> Iterator[str]:
        nonlocal last_cut
        for record in read_lines(path):
            last_cut = record.line if record.fault else last_cut
            yield f"{record.value}\n"

    # strict: an open quote is an error, and does not make one cell of the rest of the file
    reader = csv.reader(lines(), delimiter=delimiter, strict=True, skipinitialspace=skip_spaces)
    while True:
        line, cells, fault = reader.line_num + 1, list[str](), None
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            fault = f"no CSV row: {error} (lines {line} to {reader.line_num})"
        width = width or len(cells)
        if last_cut >= line:
            fault = fault or f"the line has {MAX_LINE} characters or more"
        elif cells and len(cells) != width:
            fault = f"the row has {len(cells)} cells where the first has {width}"
        yield Record(line, [] if fault else cells, fault)


def read_json_lines(path: str) -> Iterator[Record]:
    """Yield the values of a file with a JSON value per line; an empty line is an empty text."""
    for record in read_lines(path):
        value, fault = "", record.fault
        if fault is None and record.value.strip():
            try:
                value = parse_json(record.value)
            except ValueError as error:
                fault = f"no JSON: {error}"[:200]
        yield Record(record.line, value, fault)


def valid_rows(records: Iterator[Record], path: str) -> Iterator[Record]:
    """Yield the rows that are not empty; raise SemscaleError for one that cannot be read."""
    for record in records:
        if record.fault is not None:
            opened = any(words in record.fault for words in ("unexpected end", "field larger"))
            hint = "close the quote that this row opens; images in cells need Parquet" if opened else None
            where = f"{shown(path)}:{record.line}"
            raise DatasetError("a row of the file cannot be read", where=where, found=record.fault, hint=hint)
        if record.value not in ("", []):
            yield record


def class_name(value: object, where: str) -> str | None:
    """Return the class in a cell as text; None for what stands for "no class".

    >>> [class_name(value, "") for value in ("Tulip ", 3, 3.0, True, "", None, float("nan"))]
    ['Tulip', '3', '3', 'true', None, None, None]
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        is_whole = isinstance(value, float) and value.is_integer()
        return plain_text(str(int(value) if is_whole else value), where) or None
    what = "the class of a row is no text and no number"
    hint = "set label: to the field that has it, in an object by its dotted path (annotation.class)"
    raise DatasetError(what, where=where, found=type(value).__name__, hint=hint)


def text_fault(text: str) -> str | None:
    """Return why a text cannot be used: NULs, or what is no Unicode."""
    if bad := _SURROGATE.search(text):
        code = ord(bad[0]) - 0xDC00  # how bytes that are not UTF-8 are decoded
        return f"the text is not UTF-8: byte 0x{code:02x}" if 0x80 <= code <= 0xFF else "the text is not Unicode"
    return "the text has NUL bytes, as in UTF-16" if "\0" in text else None


def plain_text(text: str, where: str) -> str:
    """Return a text without surrounding white space; raise SemscaleError if it cannot be used."""
    fault = text_fault(text)
    if fault is not None:
        found = f"{fault}, in {text[:80]!a}"
        raise DatasetError("a text of the file cannot be read", where=where, found=found, hint="save it as UTF-8")
    return text.strip()


def image_name(value: object, where: str) -> str:
    """Return the path or URL in an image cell, empty if there is none; ``data:`` if the cell is the image itself.

    >>> image_name({"path": "a/1.png"}, ""), image_name(7, ""), image_name({"bytes": "iVBORw=="}, "")
    ('a/1.png', '7', 'data:')
    """
    if isinstance(value, dict):
        if value.get("bytes"):
            return INLINE
        named = [value[name] for name in ("path", "url") if isinstance(value.get(name), str)]
        value = named[0] if named else None if "bytes" in value or "path" in value else value
    if value is None:
        return ""
    if isinstance(value, str | int) and not isinstance(value, bool):
        return plain_text(str(value), where)
    what, expected = "the image of a row is no path and no URL", 'a text, or an object such as {"path": "1.jpg"}'
    hint = "set image: to the field that has it, in an object by its dotted path (picture.file)"
    raise DatasetError(what, where=where, found=type(value).__name__, expected=expected, hint=hint)
