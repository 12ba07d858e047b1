"""Parquet as Hugging Face writes it: an image (bytes, path) and a label per row, class names in the schema's metadata.

Listing reads the labels and the paths, a row group at a time, and never the bytes of an image. Rows are counted from 0.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from semscale.datasets.source import IMAGE_SUFFIXES, Entry, Notes, Options, Source
from semscale.datasets.tables.images import NamedReader, clean_path, is_url, open_images
from semscale.datasets.tables.keyed import Key
from semscale.datasets.tables.parquetfiles import Files, choose_files, find_files
from semscale.datasets.tables.rowgroups import RowReader, open_parquet
from semscale.datasets.tables.rows import label_text, plain_text
from semscale.datasets.tables.schema import Layout, find_layout
from semscale.datasets.where import plain_reason, stem
from semscale.errors import SemscaleError
from semscale.redact import shown

_BATCH = 65_536
_LOOKED_AT = 20


class _Row(NamedTuple):
    """A row: its file, its number in the file, its row group and number in it, and the columns that listing reads."""

    file: str
    number: int
    group: int
    place: int
    path: str | None
    null: bool
    label: Any


def open_source(path: str, options: Options) -> Source:
    """Open a file, a folder of files or a glob; rows without bytes name images by path, as in any table.

    Raises:
        SemscaleError: nothing is there, a file is damaged, or the columns do not say what they are.
    """
    notes, where = Notes(), shown(path)
    found = find_files(path)
    files = Files(found.root, choose_files(found.below, options.split, notes, where))
    first = files.below[0]
    layout = _layout(files, first, options)
    images = open_images(f"{files.root}/{first}", options.images)
    by_url = not layout.inline and any(
        is_url(row.path or "") for row in islice(_rows(files._replace(below=(first,)), layout, options), _LOOKED_AT)
    )
    named = NamedReader(images.reader, 16 if by_url else getattr(images.reader, "parallel", 1))
    key = Key(where, "row", images, notes, labelled=layout.label is not None)
    rows = _rows(files, layout, options)
    return Source(
        stem(path if len(found.below) == 1 else files.root),
        RowReader(files.root, layout.image, named) if layout.inline else named,
        _inline(rows, _own_names(files, layout, options), _stems(files.below), layout, key, notes)
        if layout.inline
        else _named(rows, layout, key, notes),
        notes,
        classes=layout.names,
        labels={str(number): name for number, name in enumerate(layout.names or ())},
    )


def _inline(
    rows: Iterator[_Row], own_names: bool, stems: dict[str, str], layout: Layout, key: Key, notes: Notes
) -> Iterator[Entry]:
    for row in rows:
        key.leaf = row.file
        path = clean_path(plain_text(row.path or "", f"{row.file}: row {row.number}"))
        ending = os.path.splitext(path)[1].lower()
        name = f"{stems[row.file]}/{row.number}{ending if ending in IMAGE_SUFFIXES else ''}"
        if own_names:
            name = path
        if row.null:
            yield Entry(name, reason=f"row {row.number} of {row.file}: has no image")
            continue
        label = _label(row, layout, notes)
        entry = key.inline(row.number, name, f"{row.file}:{row.group}:{row.place}", label)
        if entry is not None:
            yield entry


def _named(rows: Iterator[_Row], layout: Layout, key: Key, notes: Notes) -> Iterator[Entry]:
    for row in rows:
        key.leaf = row.file
        path = plain_text(row.path or "", f"{row.file}: row {row.number}")
        entry = key.named(row.number, path, _label(row, layout, notes))
        if entry is not None:
            yield entry
    key.finish()


def _label(row: _Row, layout: Layout, notes: Notes) -> str | None:
    label = label_text(row.label, f"{row.file}: row {row.number}")
    if layout.names is None or label is None or label in layout.names:
        return label
    if label == "-1":  # how Hugging Face says that an image has no class
        return None
    if not (label.isdecimal() and int(label) < len(layout.names)):
        notes.add("classes have no name in the schema", f"{label} (row {row.number} of {row.file})")
    return label


def _own_names(files: Files, layout: Layout, options: Options) -> bool:
    """Tell whether each row has a path and none comes twice; if so, images are named by them. Keeps 8 bytes a row."""
    if layout.path is None:
        return False
    hashes = array("q")
    for row in _rows(files, layout, options):
        if not row.path or not row.path.strip():
            return False
        hashes.append(hash(clean_path(row.path.strip())))
    return len(np.unique(np.frombuffer(hashes, dtype=np.int64))) == len(hashes)


def _stems(files: Sequence[str]) -> dict[str, str]:
    """Return what stands before a row's number: the file's name, or its path where names repeat."""
    short = {file: stem(file) for file in files}
    if len(set(short.values())) == len(files):
        return short
    return {file: file.removesuffix(".parquet") for file in files}


def _rows(files: Files, layout: Layout, options: Options) -> Iterator[_Row]:
    for file in files.below:
        if _layout(files, file, options) != layout:
            raise SemscaleError(
                "the files of a dataset have different columns",
                where=_where(files, file),
                expected=f"the image and class columns of {files.below[0]}",
            )
        for number, values in enumerate(_values(files, file, layout)):
            yield _Row(file, number, *values)


def _values(files: Files, file: str, layout: Layout) -> Iterator[tuple[int, int, str | None, bool, Any]]:
    """Give row group, number in it, path, whether there is no image, and label of each row of a file."""
    try:
        with open_parquet(f"{files.root}/{file}") as opened:
            for group in range(opened.num_row_groups):
                place = 0
                for paths, labels in _batches(opened, group, layout):
                    for value, label in zip(paths, labels, strict=True):
                        path = value.get("path") if isinstance(value, dict) else value
                        null = layout.inline and layout.path is not None and value is None
                        yield group, place, None if path is None else str(path), null, label
                        place += 1
    except Exception as error:  # a damaged file, and what the packages behind fsspec raise
        raise _damaged(files, file, error) from error


def _batches(opened: Any, group: int, layout: Layout) -> Iterator[tuple[Sequence[Any], Sequence[Any]]]:
    if not layout.listed:
        n_rows = opened.metadata.row_group(group).num_rows
        yield [None] * n_rows, [None] * n_rows
        return
    for batch in opened.iter_batches(_BATCH, row_groups=[group], columns=layout.listed, use_threads=False):
        none = [None] * len(batch)
        yield (
            batch.column(layout.image).to_pylist() if layout.path is not None else none,
            batch.column(layout.label).to_pylist() if layout.label is not None else none,
        )


def _layout(files: Files, file: str, options: Options) -> Layout:
    try:
        with open_parquet(f"{files.root}/{file}") as opened:
            schema = opened.schema_arrow
    except Exception as error:
        raise _damaged(files, file, error) from error
    return find_layout(schema, options, _where(files, file))


def _damaged(files: Files, file: str, error: Exception) -> SemscaleError:
    return SemscaleError(
        "the Parquet file cannot be read",
        where=_where(files, file),
        found=plain_reason(error),
        hint="fetch or write it anew; this one is cut off, damaged, or no Parquet",
    )


def _where(files: Files, file: str) -> str:
    return shown(f"{files.root}/{file}".partition("?")[0])
