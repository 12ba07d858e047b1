"""Loader of Parquet in Hugging Face's format: an image (bytes, path) and a label per row, class names in the metadata.

A listing reads the labels and paths, but no image bytes. Rows are numbered from 0.

A row group may exceed the memory, so images are read forwards in batches of about 16 MiB, of which the last four are
kept; a read before these restarts the group. A process keeps at most four groups. Parquet is decompressed page by page,
which needs about three times the largest page in addition; a page has up to 1,024 images by default.
"""

from __future__ import annotations

import os
import re
import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from semscale.common.errors import DatasetError, SemscaleError
from semscale.common.files import open_regular_file
from semscale.common.filesystem import (
    absolute_path,
    common_folder,
    failure_reason,
    find_files,
    is_glob,
    is_local,
    open_filesystem,
    stem,
    without_query,
)
from semscale.common.redact import mask_url
from semscale.datasets.class_from_path import SPLITS, choose_split
from semscale.datasets.dataset import (
    IMAGE_SUFFIXES,
    DatasetListing,
    DatasetOptions,
    ListedImage,
    ListingWarnings,
    Reader,
)
from semscale.datasets.tables.columns import TableLayout, find_layout
from semscale.datasets.tables.row_images import RowResolver, clean_path, image_bytes
from semscale.datasets.tables.text_records import class_in_cell, valid_text

_BATCH = 65_536
_READ_BYTES = 16 * 2**20
_READ_ROWS = 1_024
_KEPT_BATCHES = 4
_DECODED_BYTES = 256 * 2**20  # of a batch, if the encoding repeats one value in many rows
_MAX_RATIO, _FREE_BYTES = 1000, 100 * 2**20
_MAX_CHARACTERS = 4096


class _Row(NamedTuple):
    """Row: "row group:index in it" as the location, path and class of its image, and whether the image is missing."""

    location: str
    path: str
    label: str | None
    is_empty: bool


@dataclass(frozen=True)
class _Files:
    """Parquet files of a dataset by their paths below a folder or URL; all need the columns of the first."""

    root: str
    paths: tuple[str, ...]
    options: DatasetOptions

    @cached_property
    def layout(self) -> TableLayout:
        with self._open(self.paths[0]) as parquet:
            return find_layout(parquet.schema_arrow, self.options, self._shown(self.paths[0]))

    def rows(self, file: str) -> Iterator[_Row]:
        layout = self.layout
        columns, first_row = [name for name in (layout.path, layout.label) if name is not None], 0
        with self._open(file) as parquet:
            if find_layout(parquet.schema_arrow, self.options, self._shown(file)) != layout:
                what, expected = "the files of a dataset have different columns", f"those of {self.paths[0]}"
                raise DatasetError(what, where=self._shown(file), expected=expected)
            for group in range(parquet.num_row_groups):
                batch_size = min(_BATCH, _max_batch_size(f"{self.root}/{file}", parquet, group, columns))
                batches = parquet.iter_batches(batch_size, row_groups=[group], columns=columns, use_threads=False)
                number = -1
                for number, values in enumerate(row for batch in batches for row in batch.to_pylist()):
                    image, where = values.get(layout.image), f"{file}: row {first_row + number}"
                    path = image.get("path") if isinstance(image, dict) else image
                    label = None if layout.label is None else class_in_cell(values[layout.label], where)
                    if layout.names and label == "-1":  # Hugging Face's code for a missing class
                        label = None
                    path = valid_text("" if path is None else str(path), where)
                    if (length := max(len(path), len(label or ""))) > _MAX_CHARACTERS:
                        what, expected = "a path or class of the table is too long", f"at most {_MAX_CHARACTERS:,}"
                        raise DatasetError(what, where=where, found=f"{length:,} characters", expected=expected)
                    yield _Row(f"{group}:{number}", path, label, bool(layout.path) and image is None)
                first_row += number + 1

    @contextmanager
    def _open(self, file: str) -> Iterator[pq.ParquetFile]:
        try:
            with _open_parquet(f"{self.root}/{file}") as parquet:
                yield parquet
        except SemscaleError:
            raise
        except Exception as error:  # a damaged file, or any exception of the packages behind fsspec
            what, hint = "the Parquet file cannot be read", "download or write it again; it is cut off or damaged"
            raise DatasetError(what, where=self._shown(file), found=failure_reason(error), hint=hint) from error

    def _shown(self, file: str) -> str:
        return mask_url(without_query(f"{self.root}/{file}"))


def open_listing(path: str, options: DatasetOptions) -> DatasetListing:
    """Open a file, a folder of files or a glob; rows without bytes have paths of images, as in any table."""
    warnings, where, path = ListingWarnings(), mask_url(path), absolute_path(path).rstrip("/")
    matches = find_files(path, (".parquet",))
    if not matches:
        expected = "a .parquet file, a folder with some, or a glob"
        raise DatasetError("no Parquet file exists", where=where, expected=expected)
    is_folder = all(file.startswith(f"{path}/") for file in matches)
    root = path if is_folder else common_folder(matches).rstrip("/")
    relative = [file.removeprefix(f"{root}/") for file in matches]
    files = _Files(root, _choose_files(relative, options.split, warnings, where), options)
    layout = files.layout
    table, labelled = f"{root}/{files.paths[0]}", layout.label is not None
    resolver = RowResolver(table, options.images, warnings, "row", labelled=labelled)
    reader = RowGroupReader(root, layout.image, resolver.reader) if layout.inline else resolver.reader
    name = stem(re.split(r"[*?\[]", path, maxsplit=1)[0].rpartition("/")[0] if is_glob(path) else path)
    return DatasetListing(name, reader, _entries(files, resolver), warnings, layout.names)


def _entries(files: _Files, resolver: RowResolver) -> Iterator[ListedImage]:
    layout = files.layout
    named_by_path = layout.inline and layout.path is not None and _has_unique_paths(files)
    stems = {file: stem(file) for file in files.paths}
    if len(set(stems.values())) < len(stems):
        stems = {file: file.removesuffix(".parquet") for file in files.paths}
    for file in files.paths:
        resolver.file = file
        for number, row in enumerate(files.rows(file)):
            path = clean_path(row.path)
            ending = os.path.splitext(path)[1].lower()
            name = path if named_by_path else f"{stems[file]}/{number}{ending if ending in IMAGE_SUFFIXES else ''}"
            if not layout.inline:
                entry = resolver.resolve(number, row.path, row.label)
            elif row.is_empty:
                entry = ListedImage(name, reason=f"row {number} of {file}: has no image")
            else:
                entry = resolver.make_entry(number, name, f"{file}:{row.location}", row.label)
            if entry is not None:
                yield entry
    if not layout.inline:
        resolver.finish()


def _has_unique_paths(files: _Files) -> bool:
    """Return whether each row has a unique path, which then is the file name of its image."""
    seen = set[str]()
    for path in (clean_path(row.path) for file in files.paths for row in files.rows(file)):
        if not path or path in seen:
            return False
        seen.add(path)
    return True


def _choose_files(files: Sequence[str], split: str | None, warnings: ListingWarnings, where: str) -> tuple[str, ...]:
    """Return the files of the split to read; all of them if their names contain no splits."""
    splits = {file: _split_of(file) for file in files}
    known = sorted({name for name in splits.values() if name is not None})
    has_splits = split is not None or None not in splits.values()
    expected = "files such as train-00000-of-00001.parquet"
    chosen = choose_split(known if has_splits else (), split, warnings, where, expected)
    selected = tuple(file for file in files if chosen in (None, splits[file]))
    numbered = filter(None, (re.match(r"(.*)-\d+-of-(\d+)", file) for file in selected))
    for (name, total), present in Counter((match[1], int(match[2])) for match in numbered).items():
        if present < total:
            warnings.add_line(f"only {present} of the {total} files of {name} exist")
    return selected


def _split_of(file: str) -> str | None:
    """Return the split in a file's name or folder, None if there is none."""
    *folders, leaf = file.removesuffix(".parquet").split("/")
    numbered = re.fullmatch(r"(.+?)-\d+-of-\d+(-.*)?", leaf)
    words = (re.split(r"[-_.]", leaf)[0], *reversed(folders))
    return numbered[1] if numbered else next((word for word in words if word.casefold() in SPLITS), None)


@dataclass(frozen=True)
class RowGroupReader:
    """Reader of images by ``file:row group:row``; `path_reader` reads the image of a row with only its path."""

    root: str
    column: str
    path_reader: Reader

    def read(self, location: str) -> bytes:
        """Return the bytes of an image. Raises OSError."""
        file, group, row = location.rsplit(":", 2)
        path = f"{self.root}/{file}"
        try:
            # a local file that has been rewritten is opened again
            status = os.stat(open_filesystem(path)[1]) if is_local(path) else None
            version = (status.st_mtime_ns, status.st_size) if status else None
            cell = _row_group(path, version, int(group), self.column).cell(int(row))
        except (pa.ArrowException, OSError, IndexError) as error:
            raise OSError(f"row group {group} of {file.partition('?')[0]}: {failure_reason(error)}") from error
        return image_bytes(cell, lambda path: self.path_reader.read(clean_path(path)))


class _RowGroup:
    """Row group that is read forwards; thread-safe."""

    def __init__(self, path: str, group: int, column: str) -> None:
        self._path, self._group, self._column = path, group, column
        self._lock = threading.Lock()
        self._restart()

    def cell(self, row: int) -> Any:
        with self._lock:
            if self._kept and row < self._kept[0][0]:
                self._restart()
            try:
                while not self._kept or row >= self._kept[-1][0] + len(self._kept[-1][1]):
                    self._kept.append(next(self._batches))
            except Exception:
                self._restart()  # a generator that has raised is exhausted
                raise
            first, values = next(batch for batch in reversed(self._kept) if batch[0] <= row)
            return values[row - first].as_py()

    def _restart(self) -> None:
        self._kept: deque[tuple[int, pa.Array]] = deque(maxlen=_KEPT_BATCHES)
        self._batches = self._read()

    def _read(self) -> Iterator[tuple[int, pa.Array]]:
        """Yield the batches, each with the number of its first row."""
        with _open_parquet(self._path, pre_buffer=False, buffer_size=2**20) as file:
            group, number = file.metadata.row_group(self._group), 0
            size = max(1, min(_READ_ROWS, _READ_BYTES * max(1, group.num_rows) // max(1, group.total_byte_size)))
            size = min(size, _max_batch_size(self._path, file, self._group, [self._column]))
            for batch in file.iter_batches(size, row_groups=[self._group], columns=[self._column], use_threads=False):
                yield number, batch.column(0)
                number += len(batch)
        raise IndexError("the file has changed since it was listed")


@lru_cache(maxsize=4)
def _row_group(path: str, version: tuple[int, int] | None, group: int, column: str) -> _RowGroup:
    return _RowGroup(path, group, column)


def _max_batch_size(path: str, file: pq.ParquetFile, group: int, columns: Sequence[str]) -> int:
    """Return how many rows of a row group fit into `_DECODED_BYTES` if all have the largest value. Raises OSError."""
    largest, metadata = 1, file.metadata.row_group(group)
    for chunk in map(metadata.column, range(metadata.num_columns)):
        name = chunk.path_in_schema
        if not any(name == column or name.startswith(f"{column}.") for column in columns):
            continue
        if chunk.total_uncompressed_size > max(_FREE_BYTES, _MAX_RATIO * chunk.total_compressed_size):
            raise OSError(f"the column {name} decompresses to absurd size")
        if any("DELTA" in encoding for encoding in chunk.encodings):  # a value may repeat the prefix of the one before
            largest = max(largest, chunk.total_uncompressed_size)
        elif chunk.physical_type == "BYTE_ARRAY" and chunk.has_dictionary_page:
            with _open_parquet(path, metadata=file.metadata, read_dictionary=[name]) as encoded:
                first = next(encoded.iter_batches(1, row_groups=[group], columns=[name], use_threads=False), None)
            values = pa.nulls(0) if first is None else first.column(0)
            while pa.types.is_struct(values.type):
                values = values.field(0)
            if pa.types.is_dictionary(values.type):
                largest = max(largest, pc.max(pc.binary_length(values.dictionary)).as_py() or 0)
    return max(1, _DECODED_BYTES // largest)


def _open_parquet(path: str, **options: Any) -> pq.ParquetFile:
    """Open a local or remote file; only its footer is read."""
    fs, inner = open_filesystem(path)
    if is_local(path):
        open_regular_file(inner).close()  # rejects a FIFO, on which Arrow would block
        return pq.ParquetFile(inner, **options)
    # Parquet requests exact ranges; read-ahead would fetch images with a column of labels
    return pq.ParquetFile(fs.open(inner, "rb", cache_type="none"), **options)
