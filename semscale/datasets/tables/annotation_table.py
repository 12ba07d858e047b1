"""Loader of annotation tables: CSV, TSV or JSON lines with an image and its class per row, or Parquet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import pyarrow as pa

from semscale.common.errors import DatasetError
from semscale.common.filesystem import location, stem, without_query
from semscale.common.redact import shown
from semscale.datasets.base import Entry, Notes, Options, Source, as_text
from semscale.datasets.class_from_path import SPLITS, choose_split
from semscale.datasets.tables import text_records
from semscale.datasets.tables.columns import find_layout, split_column
from semscale.datasets.tables.parquet import open_source as open_parquet
from semscale.datasets.tables.row_images import RowResolver
from semscale.datasets.tables.text_records import Record

_FIRST_ROWS = 20
_MOST_SPLITS = 16


class _Table(NamedTuple):
    """A text table: its column names, and a function that streams the number of its lines and their values."""

    columns: tuple[str, ...]
    rows: Callable[[], Iterator[tuple[int, Mapping[str, Any]]]]


def open_source(path: str, options: Options) -> Source:
    """Open an annotation table: CSV or TSV with a header, JSON lines, or Parquet."""
    path = location(path)
    where, ending = shown(path), without_query(path).rpartition(".")[2].lower()
    if ending == "parquet":
        return open_parquet(path, options)
    openers = {"csv": _open_csv, "tsv": _open_csv, "jsonl": _open_json_lines, "ndjson": _open_json_lines}
    if ending not in openers:
        expected = ".csv, .tsv, .jsonl, .ndjson or .parquet"
        raise DatasetError("the table is of an unknown kind", where=where, expected=expected)
    table = openers[ending](path)
    if not table.columns:
        expected = "a first line that names the columns, or a JSON object per line"
        raise DatasetError("the table is empty", where=where, expected=expected)
    layout = find_layout(pa.schema([(as_text(name), pa.string()) for name in table.columns]), options, where)
    notes = Notes()
    resolver = RowResolver(path, options.images, notes, "line", labelled=layout.label is not None)

    def entries() -> Iterator[Entry]:
        column = split_column(table.columns)
        split = _choose_split(table, column, options.split, where, notes)
        for line, row in table.rows():
            place = f"{where}:{line}"
            label = None if layout.label is None else text_records.class_name(row.get(layout.label), place)
            entry = resolver.resolve(line, text_records.image_name(row.get(layout.image), place), label)
            # rows of other splits are resolved as well: their images are named by the table
            if entry is not None and (split is None or text_records.class_name(row[str(column)], place) == split):
                yield entry
        resolver.finish()

    return Source(stem(path), resolver.reader, entries(), notes)


def _choose_split(table: _Table, column: str | None, split: str | None, where: str, notes: Notes) -> str | None:
    """Return the value of the split column whose rows are read; None for all rows."""
    splits: set[str] = set()
    if column is not None and split != "all":
        for line, row in table.rows():
            splits.add(text_records.class_name(row.get(column), f"{where}:{line}") or "")
            if len(splits) > _MOST_SPLITS:
                break
    sure = split is not None or all(name.casefold() in SPLITS for name in splits)
    return choose_split(sorted(splits) if sure else (), split, notes, where, "a column named split")


def _open_csv(path: str) -> _Table:
    """Read the header; the separator is the one that it has most of."""
    first = next((line.value for line in text_records.read_lines(path) if line.value.strip()), "")
    mark = max(",;\t", key=first.count)

    def read() -> Iterator[Record]:
        return text_records.valid_rows(text_records.read_delimited(path, mark, skip_spaces=True), path)

    start = next(read(), Record(0, []))
    header = tuple(text_records.plain_text(name, f"{shown(path)}:{start.line}") for name in start.value)

    def rows() -> Iterator[tuple[int, Mapping[str, Any]]]:
        return ((line, dict(zip(header, row, strict=True))) for line, row, _ in islice(read(), 1, None))

    return _Table(header, rows)


def _open_json_lines(path: str) -> _Table:
    """Read the fields of the first lines, those inside objects by their dotted paths."""

    def read() -> Iterator[Record]:
        for record in text_records.read_json_lines(path):
            is_row = record.fault is not None or record.value == "" or isinstance(record.value, dict)
            yield record if is_row else record._replace(fault=f"no JSON object: {json.dumps(record.value)[:80]}")

    def rows() -> Iterator[tuple[int, Mapping[str, Any]]]:
        return ((line, dict(_fields(value))) for line, value, _ in text_records.valid_rows(read(), path))

    return _Table(tuple(dict.fromkeys(name for _, row in islice(rows(), _FIRST_ROWS) for name in row)), rows)


def _fields(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the fields of an object, and those inside its objects by their dotted paths."""
    for name, value in record.items():
        yield prefix + name, value
        if isinstance(value, dict) and prefix.count(".") < 4:
            yield from _fields(value, f"{prefix}{name}.")
