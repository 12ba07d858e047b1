"""Annotation keys: a table with an image and its class per row, and the images beside it, elsewhere, or in its rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from semscale.datasets.base import Reader
from semscale.datasets.paths import SPLITS, choose_split
from semscale.datasets.source import Entry, Notes, Options, Source
from semscale.datasets.tables.columns import Columns, choose_columns
from semscale.datasets.tables.delimited import open_delimited
from semscale.datasets.tables.images import NamedReader, is_url, open_images
from semscale.datasets.tables.jsonlines import JsonLines
from semscale.datasets.tables.keyed import Key
from semscale.datasets.tables.parquet import open_source as open_parquet
from semscale.datasets.tables.rows import Rows, image_value, inline_bytes, label_text
from semscale.datasets.where import location, stem
from semscale.errors import SemscaleError
from semscale.redact import shown

_INLINE = "data:"
_LOOKED_AT = 20
_MOST_SPLITS = 16
_SPLIT_NAMES = {name for group in SPLITS.values() for name in group}


@dataclass(frozen=True)
class TableReader:
    """Reads images that stand in the rows of a table, and those that rows name.

    Attributes:
        rows: the table.
        column: has the images.
        named: reads images by path or URL.
        parallel: reads at once that pay.
    """

    rows: Rows
    column: str
    named: Reader
    parallel: int = 1

    def read(self, place: str) -> bytes:
        """Return the bytes of an image, given by path, URL, or ``data:offset:size`` of its row. Raises OSError."""
        if not place.startswith(_INLINE):
            return self.named.read(place)
        offset, _, size = place.removeprefix(_INLINE).partition(":")
        return inline_bytes(self.rows.again(int(offset), int(size), self.column))


def open_source(path: str, options: Options) -> Source:
    """Open a key: CSV or TSV with a header, JSON lines, or Parquet.

    Raises:
        SemscaleError: the file is missing, empty or of another kind, or its columns do not say what they are.
    """
    path = location(path)  # rows are read again on workers, whose working folder is another
    ending = path.partition("?")[0].rpartition(".")[2].lower()
    if ending == "parquet":
        return open_parquet(path, options)
    rows: Rows
    if ending in ("csv", "tsv"):
        rows = open_delimited(path)
    elif ending in ("jsonl", "ndjson"):
        rows = JsonLines(path)
    else:
        raise SemscaleError(
            "the table is of an unknown kind",
            where=shown(path),
            expected=".csv, .tsv, .jsonl, .ndjson or .parquet",
        )
    columns = choose_columns(rows.columns(), options, shown(path))
    images, notes = open_images(path, options.images), Notes()
    named = NamedReader(images.reader, 16 if _names_urls(rows, columns) else getattr(images.reader, "parallel", 1))
    key = Key(shown(path), "line", images, notes, labelled=columns.label is not None)
    reader = TableReader(rows, columns.image, named, named.parallel)
    return Source(stem(path), reader, _entries(rows, columns, options.split, key, notes), notes)


def _names_urls(rows: Rows, columns: Columns) -> bool:
    first = (image_value(row.values[0], shown(rows.path)) for row in islice(rows.rows([columns.image]), _LOOKED_AT))
    return any(is_url(value.text) for value in first)


def _entries(rows: Rows, columns: Columns, split: str | None, key: Key, notes: Notes) -> Iterator[Entry]:
    names = [name for name in (columns.image, columns.label) if name is not None]
    chosen = _choose_split(rows, columns, split, key.where, notes)
    name = stem(rows.path)
    for row in rows.rows([*names, columns.split] if chosen is not None and columns.split else names):
        where = f"{key.where}:{row.line}"
        image = image_value(row.values[0], where)
        label = label_text(row.values[1], where) if columns.label is not None else None
        if image.inline:
            place = f"{_INLINE}{row.offset}:{row.size}"
            entry = key.inline(row.line, f"{name}/{row.line}{image.text}", place, label)
        else:
            entry = key.named(row.line, image.text, label)
        # a row of another split is gone through all the same: its image is one that the table names
        if entry is not None and (chosen is None or label_text(row.values[-1], where) == chosen):
            yield entry
    key.finish()


def _choose_split(rows: Rows, columns: Columns, split: str | None, where: str, notes: Notes) -> str | None:
    """Return the value of the split column whose rows are read; None for all rows."""
    available: set[str] = set()
    if columns.split is not None and split != "all":
        for row in rows.rows([columns.split]):
            available |= {label_text(row.values[0], f"{where}:{row.line}") or ""}
            if len(available) > _MOST_SPLITS:
                break
    if available and (split is not None or all(name.casefold() in _SPLIT_NAMES for name in available)):
        return choose_split(sorted(available), split, notes, where)
    if split not in (None, "all"):
        raise SemscaleError(
            "the table has no splits", where=where, found=f"split: {split}", expected="a column named split"
        )
    return None
