"""Loader of Parquet as Hugging Face writes it: an image (bytes, path) and a label per row, class names in the metadata.

A listing reads the labels and the paths, a row group at a time, and never the bytes of an image. Rows count from 0.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from semscale.datasets.source import IMAGE_SUFFIXES, Entry, Notes, Options, Source
from semscale.datasets.tables.cells import label_text, plain_text
from semscale.datasets.tables.images import NamedReader, RowResolver, clean_path, is_url, open_images
from semscale.datasets.tables.parquet_files import ParquetFiles, find_files
from semscale.datasets.tables.parquet_schema import Layout, find_layout
from semscale.datasets.tables.row_groups import RowGroupReader, open_parquet
from semscale.datasets.where import plain_reason, stem
from semscale.errors import SemscaleError
from semscale.redact import shown

_BATCH = 65_536
_LOOKED_AT = 20


class _Row(NamedTuple):
    """Number of a row in its file, its row group and number in that, and the listed values."""

    number: int
    group: int
    place: int
    image: Any
    label: Any

    @property
    def path(self) -> str:
        path = self.image.get("path") if isinstance(self.image, dict) else self.image
        return "" if path is None else str(path)


def open_source(path: str, options: Options) -> Source:
    """Open a file, a folder of files or a glob; rows without bytes name images by path, as in any table.

    Raises:
        SemscaleError: nothing is there, a file is damaged, or the columns do not say what they are.
    """
    notes, where = Notes(), shown(path)
    files = find_files(path, options.split, notes)
    first = files.below[0]
    with _opened(files, first) as opened:
        layout = find_layout(opened.schema_arrow, options, files.shown(first))
    images = open_images(f"{files.root}/{first}", options.images)
    looked_at = () if layout.inline else islice(_rows(files, first, layout, options), _LOOKED_AT)
    named = NamedReader.of(images.reader, by_url=any(is_url(row.path) for row in looked_at))
    resolver = RowResolver(where, "row", images, notes, labelled=layout.label is not None)
    return Source(
        files.name,
        RowGroupReader(files.root, layout.image, named) if layout.inline else named,
        _list(files, layout, options, resolver, notes),
        notes,
        classes=layout.names,
        labels={str(number): name for number, name in enumerate(layout.names or ())},
    )


def _list(
    files: ParquetFiles, layout: Layout, options: Options, resolver: RowResolver, notes: Notes
) -> Iterator[Entry]:
    by_path = layout.inline and _has_unique_paths(files, layout, options)
    stems = _stems(files.below)
    for file in files.below:
        resolver.file = file
        for row in _rows(files, file, layout, options):
            path = plain_text(row.path, f"{file}: row {row.number}")
            label = _label(row, file, layout, notes)
            if not layout.inline:
                entry = resolver.resolve(row.number, path, label)
            else:
                path = clean_path(path)
                ending = os.path.splitext(path)[1].lower()
                name = path if by_path else f"{stems[file]}/{row.number}{ending if ending in IMAGE_SUFFIXES else ''}"
                if layout.path is not None and row.image is None:
                    entry = Entry(name, reason=f"row {row.number} of {file}: has no image")
                else:
                    entry = resolver.entry(row.number, name, f"{file}:{row.group}:{row.place}", label)
            if entry is not None:
                yield entry
    if not layout.inline:
        resolver.finish()


def _label(row: _Row, file: str, layout: Layout, notes: Notes) -> str | None:
    label = label_text(row.label, f"{file}: row {row.number}")
    if layout.names is None or label is None or label in layout.names:
        return label
    if label == "-1":  # how Hugging Face says that an image has no class
        return None
    if not (label.isdecimal() and int(label) < len(layout.names)):
        notes.add("classes have no name in the schema", f"{label} (row {row.number} of {file})")
    return label


def _has_unique_paths(files: ParquetFiles, layout: Layout, options: Options) -> bool:
    """Tell whether each row has a path and none comes twice; if so, images are named by their paths."""
    if layout.path is None:
        return False
    chunks: list[pa.Array] = []
    for file in files.below:
        for _, _, batch in _batches(files, file, [layout.path], layout, options):
            paths = pc.struct_field(batch.column(0), "path").cast(pa.string())
            chunks.append(pc.replace_substring(pc.utf8_trim_whitespace(paths), "\\", "/"))
    paths = pc.replace_substring_regex(pa.chunked_array(chunks, pa.string()), r"^(\./+)+", "")
    unique = pc.unique(paths)
    return len(unique) == len(paths) and paths.null_count == 0 and not pc.any(pc.equal(unique, "")).as_py()


def _stems(files: Sequence[str]) -> dict[str, str]:
    """Return what stands before a row's number: the file's name, or its path where names repeat."""
    short = {file: stem(file) for file in files}
    if len(set(short.values())) == len(files):
        return short
    return {file: file.removesuffix(".parquet") for file in files}


def _rows(files: ParquetFiles, file: str, layout: Layout, options: Options) -> Iterator[_Row]:
    number = 0
    for group, start, batch in _batches(files, file, layout.listed, layout, options):
        nothing = [None] * len(batch)
        images = nothing if layout.path is None else batch.column(layout.image).to_pylist()
        labels = nothing if layout.label is None else batch.column(layout.label).to_pylist()
        for place, (image, label) in enumerate(zip(images, labels, strict=True), start):
            yield _Row(number, group, place, image, label)
            number += 1


def _batches(
    files: ParquetFiles, file: str, columns: list[str], layout: Layout, options: Options
) -> Iterator[tuple[int, int, pa.RecordBatch]]:
    """Yield batches of some columns, each with its row group and the number of its first row in that."""
    with _opened(files, file) as opened:
        if find_layout(opened.schema_arrow, options, files.shown(file)) != layout:
            raise SemscaleError(
                "the files of a dataset have different columns",
                where=files.shown(file),
                expected=f"the image and class columns of {files.below[0]}",
            )
        for group in range(opened.num_row_groups):
            start = 0
            for batch in opened.iter_batches(_BATCH, row_groups=[group], columns=columns, use_threads=False):
                yield group, start, batch
                start += len(batch)


@contextmanager
def _opened(files: ParquetFiles, file: str) -> Iterator[Any]:
    try:
        with open_parquet(f"{files.root}/{file}") as opened:
            yield opened
    except SemscaleError:
        raise
    except Exception as error:  # a damaged file, and what the packages behind fsspec raise
        raise SemscaleError(
            "the Parquet file cannot be read",
            where=files.shown(file),
            found=plain_reason(error),
            hint="fetch or write it anew; this one is cut off, damaged, or no Parquet",
        ) from error
