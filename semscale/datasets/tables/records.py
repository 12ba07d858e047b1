"""Streaming reader of text, CSV, TSV and JSON lines, shared by annotation tables and texts to be labelled.

It uses ``csv`` and ``json`` of the standard library, because pyarrow's CSV reader takes the rest of a file for one cell
where a quote is left open, and counts rows instead of lines.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from io import BufferedReader, TextIOWrapper
from typing import Any, NamedTuple

from semscale.datasets.filesystem import is_missing, open_filesystem, plain_reason
from semscale.errors import SemscaleError
from semscale.redact import shown

MAX_LINE = 2**20
"""Characters that are kept of a line: a file without line ends must not fill the memory."""


class Record(NamedTuple):
    """Number of the first line of a row (1 is the first), its text, cells or JSON value, and why it cannot be read."""

    line: int
    value: Any
    fault: str | None = None


def read_lines(path: str) -> Iterator[Record]:
    """Yield the lines of a UTF-8 file without their ends; bytes that are not UTF-8 become surrogates."""
    fs, inner = open_filesystem(path)
    try:
        # buffered, because fsspec's own readline seeks, which a server without ranges does not allow
        raw = BufferedReader(fs.open(inner, "rb"), 2**20)
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
            raise SemscaleError("the file does not exist", where=shown(path)) from error
        raise SemscaleError("the file cannot be read", where=shown(path), found=plain_reason(error)) from error


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
                value = json.loads(record.value)
            except (ValueError, RecursionError) as error:
                fault = f"no JSON: {error}"[:200]
        yield Record(record.line, value, fault)


def valid_rows(records: Iterator[Record], path: str) -> Iterator[Record]:
    """Yield the rows that are not empty; raise SemscaleError for one that cannot be read."""
    for record in records:
        if record.fault is not None:
            opened = any(words in record.fault for words in ("unexpected end", "field larger"))
            raise SemscaleError(
                "a row of the file cannot be read",
                where=f"{shown(path)}:{record.line}",
                found=record.fault,
                hint="close the quote that this row opens; images in cells need Parquet" if opened else None,
            )
        if record.value not in ("", []):
            yield record
