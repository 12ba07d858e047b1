"""Loader of annotation tables with an image and its class per row: CSV, TSV, JSON lines, or Parquet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import pyarrow as pa

from semscale.common.errors import DatasetError
from semscale.common.filesystem import absolute_path, stem, without_query
from semscale.common.redact import mask_url
from semscale.datasets.class_from_path import SPLITS, choose_split
from semscale.datasets.dataset import DatasetListing, DatasetOptions, ListedImage, ListingWarnings, utf8_name
from semscale.datasets.tables import text_records
from semscale.datasets.tables.columns import find_layout, split_column
from semscale.datasets.tables.parquet import open_listing as open_parquet
from semscale.datasets.tables.row_images import RowResolver
from semscale.datasets.tables.text_records import Record

_FIRST_ROWS = 20
_MAX_SPLITS = 16


class _Table(NamedTuple):
    """Text table: its column names, and a function that iterates over line numbers and rows."""

    columns: tuple[str, ...]
    rows: Callable[[], Iterator[tuple[int, Mapping[str, Any]]]]


def open_listing(path: str, options: DatasetOptions) -> DatasetListing:
    """Open an annotation table: CSV or TSV with a header, JSON lines, or Parquet."""
    path = absolute_path(path)
    where, ending = mask_url(path), without_query(path).rpartition(".")[2].lower()
    if ending == "parquet":
        return open_parquet(path, options)
    openers = {"csv": _open_csv, "tsv": _open_csv, "jsonl": _open_json_lines, "ndjson": _open_json_lines}
    if ending not in openers:
        expected = ".csv, .tsv, .jsonl, .ndjson or .parquet"
        raise DatasetError("the format of the table is not supported", where=where, expected=expected)
    table = openers[ending](path)
    if not table.columns:
        expected = "a first line that names the columns, or a JSON object per line"
        raise DatasetError("the table is empty", where=where, expected=expected)
    layout = find_layout(pa.schema([(utf8_name(name), pa.string()) for name in table.columns]), options, where)
    warnings = ListingWarnings()
    resolver = RowResolver(path, options.images, warnings, "line", labelled=layout.label is not None)

    def entries() -> Iterator[ListedImage]:
        column = split_column(table.columns)
        split = _choose_split(table, column, options.split, where, warnings)
        for line, row in table.rows():
            address = f"{where}:{line}"
            label = None if layout.label is None else text_records.class_in_cell(row.get(layout.label), address)
            entry = resolver.resolve(line, text_records.path_in_cell(row.get(layout.image), address), label)
            # rows of other splits are resolved, too, because their images are in the table
            if entry is not None and (split is None or text_records.class_in_cell(row[str(column)], address) == split):
                yield entry
        resolver.finish()

    return DatasetListing(stem(path), resolver.reader, entries(), warnings)


def _choose_split(
    table: _Table, column: str | None, split: str | None, where: str, warnings: ListingWarnings
) -> str | None:
    """Return the value of the split column whose rows are read; None for all rows."""
    splits: set[str] = set()
    if column is not None and split != "all":
        for line, row in table.rows():
            splits.add(text_records.class_in_cell(row.get(column), f"{where}:{line}") or "")
            if len(splits) > _MAX_SPLITS:
                break
    is_split_column = split is not None or all(name.casefold() in SPLITS for name in splits)
    return choose_split(sorted(splits) if is_split_column else (), split, warnings, where, "a column named split")


def _open_csv(path: str) -> _Table:
    """Read the header of a table; the delimiter is the most frequent one in it."""
    first = next((line.value for line in text_records.read_lines(path) if line.value.strip()), "")
    delimiter = max(",;\t", key=first.count)

    def read() -> Iterator[Record]:
        return text_records.valid_rows(text_records.read_delimited(path, delimiter, skip_spaces=True), path)

    start = next(read(), Record(0, []))
    header = tuple(text_records.valid_text(name, f"{mask_url(path)}:{start.line}") for name in start.value)

    def rows() -> Iterator[tuple[int, Mapping[str, Any]]]:
        return ((line, dict(zip(header, row, strict=True))) for line, row, _ in islice(read(), 1, None))

    return _Table(header, rows)


def _open_json_lines(path: str) -> _Table:
    """Read the field names of the first lines, those of nested objects as dotted paths."""

    def read() -> Iterator[Record]:
        for record in text_records.read_json_lines(path):
            is_valid = record.fault is not None or record.value == "" or isinstance(record.value, dict)
            yield record if is_valid else record._replace(fault=f"no JSON object: {json.dumps(record.value)[:80]}")

    def rows() -> Iterator[tuple[int, Mapping[str, Any]]]:
        return ((line, dict(_fields(value))) for line, value, _ in text_records.valid_rows(read(), path))

    return _Table(tuple(dict.fromkeys(name for _, row in islice(rows(), _FIRST_ROWS) for name in row)), rows)


def _fields(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the fields of an object, and those of nested objects by their dotted paths."""
    for name, value in record.items():
        yield prefix + name, value
        if isinstance(value, dict) and prefix.count(".") < 4:
            yield from _fields(value, f"{prefix}{name}.")
