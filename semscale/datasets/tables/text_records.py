"""Streaming reader of text, CSV, TSV and JSON lines and their cells, for annotation tables and texts to be labelled.

It uses ``csv`` and ``json`` of the standard library, because pyarrow's CSV reader reads the rest of a file into one
cell after an unclosed quote, and counts rows instead of lines.
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
from semscale.common.filesystem import failure_reason, is_missing, open_file
from semscale.common.parsing import parse_json
from semscale.common.redact import mask_url

MAX_LINE = 2**20
"""Maximum characters kept of a line, so that a file without line ends does not fill the memory."""

INLINE = "data:"
"""Prefix of a cell that contains the image itself."""

_SURROGATE = re.compile("[\ud800-\udfff]")


class Record(NamedTuple):
    """Row: number of its first line, from 1; its text, cells or JSON value; and why it cannot be read."""

    line: int
    value: Any
    fault: str | None = None


def read_lines(path: str) -> Iterator[Record]:
    """Yield the lines of a UTF-8 file without line ends; bytes that are not UTF-8 become surrogates."""
    try:
        # buffered, because fsspec's readline seeks, which a server without range requests does not support
        opened: Any = open_file(path)
        raw = BufferedReader(opened, 2**20)
        with TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            number = 0
            while line := file.readline(MAX_LINE):
                number += 1
                part = line
                while len(part) == MAX_LINE and not part.endswith(("\n", "\r")):
                    part = file.readline(MAX_LINE)
                fault = f"the line has {MAX_LINE} characters or more" if len(line) == MAX_LINE else None
                yield Record(number, line.rstrip("\r\n"), fault)
    except Exception as error:  # the packages behind fsspec raise nearly anything
        if is_missing(error):
            raise DatasetError("the file does not exist", where=mask_url(path)) from error
        raise DatasetError("the file cannot be read", where=mask_url(path), found=failure_reason(error)) from error


def detect_delimiter(path: str) -> str:
    """Return the delimiter of a CSV file: a comma, or the one that splits the first rows into as many cells each."""
    for delimiter in ",;\t":
        rows = list(islice(read_delimited(path, delimiter), 20))
        is_consistent = len(rows) > 1 and not any(row.fault for row in rows)
        if rows and len(rows[0].value) > 1 and (delimiter == "," or is_consistent):
            return delimiter
    return ","


def read_delimited(path: str, delimiter: str, *, skip_spaces: bool = False) -> Iterator[Record]:
    r"""Yield the rows of a CSV or TSV file, all as long as the first; a line end in quotes becomes ``\n``."""
    last_truncated = width = 0

    def lines() -> Iterator[str]:
        nonlocal last_truncated
        for record in read_lines(path):
            last_truncated = record.line if record.fault else last_truncated
            yield f"{record.value}\n"

    # strict: an unclosed quote is an error instead of one cell with the rest of the file
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
        if last_truncated >= line:
            fault = fault or f"the line has {MAX_LINE} characters or more"
        elif cells and len(cells) != width:
            fault = f"the row has {len(cells)} cells where the first has {width}"
        yield Record(line, [] if fault else cells, fault)


def read_json_lines(path: str) -> Iterator[Record]:
    """Yield the values of a file with a JSON value per line; an empty line is an empty string."""
    for record in read_lines(path):
        value, fault = "", record.fault
        if fault is None and record.value.strip():
            try:
                value = parse_json(record.value)
            except ValueError as error:
                fault = f"no JSON: {error}"[:200]
        yield Record(record.line, value, fault)


def valid_rows(records: Iterator[Record], path: str) -> Iterator[Record]:
    """Yield the rows that are not empty. Raises DatasetError for one that cannot be read."""
    for record in records:
        if record.fault is not None:
            is_unclosed = any(words in record.fault for words in ("unexpected end", "field larger"))
            hint = "close the quote that this row opens; images in cells need Parquet" if is_unclosed else None
            where = f"{mask_url(path)}:{record.line}"
            raise DatasetError("a row of the file cannot be read", where=where, found=record.fault, hint=hint)
        if record.value not in ("", []):
            yield record


def class_in_cell(value: object, where: str) -> str | None:
    """Return the class in a cell as text; None if the cell is empty, null or NaN.

    >>> [class_in_cell(value, "") for value in ("Tulip ", 3, 3.0, True, "", None, float("nan"))]
    ['Tulip', '3', '3', 'true', None, None, None]
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        is_whole = isinstance(value, float) and value.is_integer()
        return valid_text(str(int(value) if is_whole else value), where) or None
    what = "the class of a row is neither text nor a number"
    hint = "set label: to its field; the field of a nested object is a dotted path (annotation.class)"
    raise DatasetError(what, where=where, found=type(value).__name__, hint=hint)


def text_fault(text: str) -> str | None:
    """Return why a text cannot be used: NUL bytes or invalid Unicode; None if it can."""
    if bad := _SURROGATE.search(text):
        code = ord(bad[0]) - 0xDC00  # a byte that is not UTF-8, by surrogateescape
        return f"the text is not UTF-8: byte 0x{code:02x}" if 0x80 <= code <= 0xFF else "the text is not Unicode"
    return "the text has NUL bytes, as in UTF-16" if "\0" in text else None


def valid_text(text: str, where: str) -> str:
    """Return a text without surrounding white space. Raises DatasetError if it cannot be used."""
    fault = text_fault(text)
    if fault is not None:
        found = f"{fault}, in {text[:80]!a}"
        raise DatasetError("a text of the file cannot be read", where=where, found=found, hint="save it as UTF-8")
    return text.strip()


def path_in_cell(value: object, where: str) -> str:
    """Return the path or URL in an image cell, empty if there is none; ``data:`` if the cell contains the image.

    >>> path_in_cell({"path": "a/1.png"}, ""), path_in_cell(7, ""), path_in_cell({"bytes": "iVBORw=="}, "")
    ('a/1.png', '7', 'data:')
    """
    if isinstance(value, dict):
        if value.get("bytes"):
            return INLINE
        paths = [value[name] for name in ("path", "url") if isinstance(value.get(name), str)]
        value = paths[0] if paths else None if "bytes" in value or "path" in value else value
    if value is None:
        return ""
    if isinstance(value, str | int) and not isinstance(value, bool):
        return valid_text(str(value), where)
    what, expected = "the image of a row is neither a path nor a URL", 'a text, or an object such as {"path": "1.jpg"}'
    hint = "set image: to its field; the field of a nested object is a dotted path (picture.file)"
    raise DatasetError(what, where=where, found=type(value).__name__, expected=expected, hint=hint)
