"""CSV and TSV files, streamed; the separator is seen in the header, and what does not fit is an error with its line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from semscale.datasets.tables.lines import read_lines, read_part
from semscale.datasets.tables.rows import Row
from semscale.errors import SemscaleError
from semscale.redact import shown

MAX_FIELD_CHARACTERS = 32 * 2**20
"""A longer field is an error; an image in a row may be that long."""

MAX_ROW_LINES = 10_000
"""A row of more lines is an error; a quote was left open."""

_SEPARATORS = (",", ";", "\t")


@dataclass(frozen=True)
class Delimited:
    """A file with a header and a row per record; quoted fields may hold separators and line ends.

    Attributes:
        path: where the file lies.
        separator: what stands between fields.
        header: the names of the columns.
    """

    path: str
    separator: str
    header: tuple[str, ...]

    def columns(self) -> Sequence[str]:
        """Return the names in the header."""
        return self.header

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        """Give the records; empty lines are left out.

        Raises:
            SemscaleError: a record has more or fewer fields than the header, or is no CSV; with file and line.
        """
        picked = [self.header.index(column) for column in columns]
        records = _records(self.path, self.separator, strict=True)
        next(records)
        for row in records:
            if len(row.values) != len(self.header):
                raise SemscaleError(
                    "a row of the table has another number of fields than its header",
                    where=f"{shown(self.path)}:{row.line}",
                    found=f"{len(row.values)} fields",
                    expected=f"{len(self.header)} fields",
                )
            yield row._replace(values=tuple(row.values[index] for index in picked))

    def again(self, offset: int, size: int, column: str) -> object:
        """Return a field of the record at this place.

        Raises:
            OSError: the file cannot be read, or has changed.
        """
        text = io.StringIO(read_part(self.path, offset, size), newline="")
        try:
            return next(_reader(text, self.separator, strict=True))[self.header.index(column)]
        except (csv.Error, StopIteration, IndexError) as error:
            raise OSError("the table has changed since it was listed") from error


def open_delimited(path: str) -> Delimited:
    """Read the header of a file; its separator is the one that gives the most columns.

    Raises:
        SemscaleError: the file is missing, empty or not text.
    """
    found = []
    for separator in _SEPARATORS:
        first = next(_records(path, separator, strict=False), None)
        if first is None:
            raise SemscaleError("the table is empty", where=shown(path), expected="a first line that names the columns")
        found.append(Delimited(path, separator, tuple(str(name).strip() for name in first.values)))
    return max(found, key=lambda one: len(one.header))


def _records(path: str, separator: str, strict: bool) -> Iterator[Row]:
    """Give all records that are not empty, the header too."""
    line, offset, end = 1, 0, 0

    def texts() -> Iterator[str]:
        nonlocal end
        for one in read_lines(path):
            if one.number - line >= MAX_ROW_LINES:
                raise _broken(f"a row of more than {MAX_ROW_LINES} lines", f"{shown(path)}:{line}", one.number)
            end = one.offset + one.size
            yield one.text

    reader = _reader(texts(), separator, strict)
    try:
        for record in reader:
            if record:
                yield Row(line, offset, end - offset, tuple(record))
            line, offset = reader.line_num + 1, end
    except csv.Error as error:
        raise _broken(str(error), f"{shown(path)}:{line}", reader.line_num) from error


def _reader(texts: Iterable[str], separator: str, strict: bool) -> Any:
    csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD_CHARACTERS))
    return csv.reader(texts, delimiter=separator, strict=strict, skipinitialspace=True)


def _broken(error: str, where: str, line: int) -> SemscaleError:
    hint = None
    if any(words in error for words in ("unexpected end", "field larger", "more than")):
        hint = "close the quote that this row opens"
    elif "new-line" in error:
        hint = "save the file with line ends of Unix or Windows"
    return SemscaleError("a row of the table is no CSV", where=where, found=f"{error}, at line {line}", hint=hint)
