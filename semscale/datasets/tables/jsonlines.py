"""JSON lines, streamed: an object per line, its fields by dotted path (``annotation.class``)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from semscale.datasets.tables.lines import Line, read_lines, read_part
from semscale.datasets.tables.rows import Row
from semscale.errors import SemscaleError
from semscale.redact import shown

_LOOKED_AT = 20


@dataclass(frozen=True)
class JsonLines:
    """A file with a JSON object per line.

    Attributes:
        path: where the file lies.
    """

    path: str

    def columns(self) -> Sequence[str]:
        """Return the fields of the first lines, those inside objects by their dotted paths.

        Raises:
            SemscaleError: the file is missing or empty, or one of these lines is no JSON object.
        """
        names: dict[str, None] = {}
        for _, record in islice(self._records(), _LOOKED_AT):
            names.update(dict.fromkeys(_names(record, "")))
        if not names:
            raise SemscaleError("the table is empty", where=shown(self.path), expected="a JSON object per line")
        return tuple(names)

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        """Give the lines; a field that one lacks is None there, and empty lines are left out.

        Raises:
            SemscaleError: a line is no JSON object; with file and line.
        """
        for line, record in self._records():
            values = tuple(_field(record, column) for column in columns)
            yield Row(line.number, line.offset, line.size, values)

    def again(self, offset: int, size: int, column: str) -> object:
        """Return a field of the line at this place.

        Raises:
            OSError: the file cannot be read, or has changed.
        """
        try:
            record = json.loads(read_part(self.path, offset, size))
        except (ValueError, RecursionError) as error:
            raise OSError("the table has changed since it was listed") from error
        return _field(record, column) if isinstance(record, dict) else None

    def _records(self) -> Iterator[tuple[Line, dict[str, object]]]:
        for line in read_lines(self.path):
            if not line.text.strip():
                continue
            try:
                record = json.loads(line.text)
            except (ValueError, RecursionError) as error:
                raise SemscaleError(
                    "a line of the table is no JSON", where=f"{shown(self.path)}:{line.number}", found=str(error)
                ) from error
            if not isinstance(record, dict):
                raise SemscaleError(
                    "a line of the table is no JSON object",
                    where=f"{shown(self.path)}:{line.number}",
                    found=line.text.strip()[:80],
                    expected='an object per line, such as {"image": "1.jpg", "class": "cat"}',
                )
            yield line, record


def _names(record: Mapping[str, object], prefix: str) -> Iterator[str]:
    for name, value in record.items():
        yield prefix + name
        if isinstance(value, dict) and prefix.count(".") < 4:
            yield from _names(value, f"{prefix}{name}.")


def _field(record: Mapping[str, object], column: str) -> object:
    """Return a field by its dotted path, or by its name where that has dots itself.

    >>> _field({"annotation": {"class": "cat"}, "a.b": 1}, "annotation.class"), _field({"a.b": 1}, "a.b")
    ('cat', 1)
    """
    if column in record:
        return record[column]
    value: object = record
    for name in column.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value
