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

from semscale.datasets.where import is_missing, open_place, plain_reason
from semscale.errors import SemscaleError
from semscale.redact import shown

MAX_LINE = 2**20
"""Characters that are kept of a line: a file without line ends must not fill the memory."""


class Record(NamedTuple):
    """A line or row of a text file.

    Attributes:
        line: number of its first line, counted from 1.
        value: the line, the list of cells, or the JSON value; an empty line is an empty text or list.
        fault: why it cannot be read; None if it can.
    """

    line: int
    value: Any
    fault: str | None = None


def read_lines(path: str) -> Iterator[Record]:
    """Yield the lines of a UTF-8 file without their ends; bytes that are not UTF-8 become surrogates.

    Raises:
        SemscaleError: the file does not exist or cannot be read.
    """
    fs, inner = open_place(path)
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
    r"""Yield the rows of a CSV or TSV file as lists of cells; a line end in quotes becomes ``\n``.

    Raises:
        SemscaleError: the file does not exist or cannot be read.
    """
    last_cut = 0

    def lines() -> Iterator[str]:
        nonlocal last_cut
        for record in read_lines(path):
            last_cut = record.line if record.fault else last_cut
            yield f"{record.value}\n"

    # strict: an open quote is an error, and does not make one cell of the rest of the file
    reader = csv.reader(lines(), delimiter=delimiter, strict=True, skipinitialspace=skip_spaces)
    while True:
        line = reader.line_num + 1
        try:
            record = Record(line, next(reader))
        except StopIteration:
            return
        except csv.Error as error:
            record = Record(line, [], f"no CSV row: {error} (lines {line} to {reader.line_num})")
        if record.fault is None and last_cut >= line:
            record = Record(line, [], f"the line has {MAX_LINE} characters or more")
        yield record


def read_json_lines(path: str) -> Iterator[Record]:
    """Yield the values of a file with a JSON value per line.

    Raises:
        SemscaleError: the file does not exist or cannot be read.
    """
    for record in read_lines(path):
        if record.fault is not None or not record.value.strip():
            yield record._replace(value="")
            continue
        try:
            value = json.loads(record.value)
        except (ValueError, RecursionError) as error:
            yield Record(record.line, "", f"no JSON: {error}"[:200])
        else:
            yield Record(record.line, value)
