"""Loader of annotation tables: CSV, TSV or JSON lines with an image and its class per row, or Parquet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from semscale.datasets.paths import SPLITS, choose_split
from semscale.datasets.source import Entry, Notes, Options, Source
from semscale.datasets.tables.cells import image_name, label_text
from semscale.datasets.tables.columns import Columns, choose_columns
from semscale.datasets.tables.images import NamedReader, RowResolver, is_url, open_images
from semscale.datasets.tables.parquet import open_source as open_parquet
from semscale.datasets.tables.records import Record, read_delimited, read_json_lines
from semscale.datasets.where import location, stem
from semscale.errors import SemscaleError
from semscale.redact import shown

Row = tuple[int, tuple[object, ...]]

_LOOKED_AT = 20
_MOST_SPLITS = 16


class _Table(NamedTuple):
    """A text table: its column names, and a function that streams line number and values of some columns per row."""

    columns: tuple[str, ...]
    rows: Callable[[Sequence[str]], Iterator[Row]]


def open_source(path: str, options: Options) -> Source:
    """Open an annotation table: CSV or TSV with a header, JSON lines, or Parquet.

    Raises:
        SemscaleError: the file is missing, empty or of another kind, or its columns do not say what they are.
    """
    path = location(path)
    ending = path.partition("?")[0].rpartition(".")[2].lower()
    if ending == "parquet":
        return open_parquet(path, options)
    openers = {"csv": _open_csv, "tsv": _open_csv, "jsonl": _open_json_lines, "ndjson": _open_json_lines}
    if ending not in openers:
        raise SemscaleError(
            "the table is of an unknown kind",
            where=shown(path),
            expected=".csv, .tsv, .jsonl, .ndjson or .parquet",
        )
    table = openers[ending](path)
    columns = choose_columns(table.columns, options, shown(path))
    images, notes = open_images(path, options.images), Notes()
    first = islice(table.rows([columns.image]), _LOOKED_AT)
    by_url = any(is_url(image_name(values[0], shown(path))) for _, values in first)
    resolver = RowResolver(shown(path), "line", images, notes, labelled=columns.label is not None)
    entries = _entries(table, columns, options.split, shown(path), resolver, notes)
    return Source(stem(path), NamedReader.of(images.reader, by_url), entries, notes)


def _entries(
    table: _Table, columns: Columns, split: str | None, where: str, resolver: RowResolver, notes: Notes
) -> Iterator[Entry]:
    names = [name for name in (columns.image, columns.label) if name is not None]
    chosen = _choose_split(table, columns, split, where, notes)
    for line, values in table.rows([*names, columns.split] if chosen is not None and columns.split else names):
        row = f"{where}:{line}"
        label = label_text(values[1], row) if columns.label is not None else None
        entry = resolver.resolve(line, image_name(values[0], row), label)
        # rows of other splits are resolved as well: their images are named by the table
        if entry is not None and (chosen is None or label_text(values[-1], row) == chosen):
            yield entry
    resolver.finish()


def _choose_split(table: _Table, columns: Columns, split: str | None, where: str, notes: Notes) -> str | None:
    """Return the value of the split column whose rows are read; None for all rows."""
    available: set[str] = set()
    if columns.split is not None and split != "all":
        for line, values in table.rows([columns.split]):
            available.add(label_text(values[0], f"{where}:{line}") or "")
            if len(available) > _MOST_SPLITS:
                break
    sure = split is not None or all(name.casefold() in SPLITS for name in available)
    return choose_split(sorted(available) if sure else (), split, notes, where, "a column named split")


def _open_csv(path: str) -> _Table:
    """Read the header; the separator is the one that gives the most columns."""
    where = shown(path)
    headers: dict[str, Record] = {}
    for mark in ",;\t":
        rows = read_delimited(path, mark, skip_spaces=True)
        found = next((record for record in rows if record.value or record.fault), None)
        if found is None:
            raise SemscaleError("the table is empty", where=where, expected="a first line that names the columns")
        headers[mark] = found
    mark = max(headers, key=lambda mark: len(headers[mark].value))
    first = _sound(headers[mark], where)
    header = tuple(name.strip() for name in first.value)
    if any("\0" in name for name in header):
        raise SemscaleError(
            "the table is not UTF-8",
            where=f"{where}:{first.line}",
            found="NUL bytes, as in UTF-16",
            hint="save it as UTF-8",
        )

    def rows_of(columns: Sequence[str]) -> Iterator[Row]:
        picked = [header.index(column) for column in columns]
        for record in read_delimited(path, mark, skip_spaces=True):
            cells = _sound(record, where).value
            if not cells or record.line == first.line:
                continue
            if len(cells) != len(header):
                raise SemscaleError(
                    "a row of the table has another number of fields than its header",
                    where=f"{where}:{record.line}",
                    found=f"{len(cells)} fields",
                    expected=f"{len(header)} fields",
                )
            yield record.line, tuple(cells[index] for index in picked)

    return _Table(header, rows_of)


def _sound(record: Record, where: str) -> Record:
    if record.fault is None:
        return record
    hint = None
    if any(words in record.fault for words in ("unexpected end", "field larger")):
        hint = "close the quote that this row opens; for images in the cells of a table use Parquet"
    raise SemscaleError("a row of the table is no CSV", where=f"{where}:{record.line}", found=record.fault, hint=hint)


def _open_json_lines(path: str) -> _Table:
    """Read the fields of the first lines, those inside objects by their dotted paths."""
    where = shown(path)

    def records() -> Iterator[Record]:
        for record in read_json_lines(path):
            if record.fault is not None:
                raise SemscaleError(
                    "a line of the table is no JSON", where=f"{where}:{record.line}", found=record.fault
                )
            if isinstance(record.value, dict):
                yield record
            elif record.value != "":
                raise SemscaleError(
                    "a line of the table is no JSON object",
                    where=f"{where}:{record.line}",
                    found=json.dumps(record.value)[:80],
                    expected='an object per line, such as {"image": "1.jpg", "class": "cat"}',
                )

    def rows_of(columns: Sequence[str]) -> Iterator[Row]:
        for record in records():
            yield record.line, tuple(_field(record.value, column) for column in columns)

    columns = {name: None for record in islice(records(), _LOOKED_AT) for name in _field_names(record.value, "")}
    if not columns:
        raise SemscaleError("the table is empty", where=where, expected="a JSON object per line")
    return _Table(tuple(columns), rows_of)


def _field_names(record: Mapping[str, object], prefix: str) -> Iterator[str]:
    for name, value in record.items():
        yield prefix + name
        if isinstance(value, dict) and prefix.count(".") < 4:
            yield from _field_names(value, f"{prefix}{name}.")


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
