"""Reader of images in the rows of Parquet files: the image column only, with a bounded cache of row groups.

A row group may be larger than the memory, so it is read forwards in batches of about 16 MiB, of which the last 64 MiB
are kept; going back beyond them starts the group again. A process keeps four groups at most. Parquet itself is
unpacked page by page: add about three times the largest page, which has up to 1,024 images by default.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from semscale.datasets.base import Reader
from semscale.datasets.filesystem import MAX_FILE_BYTES, is_local, open_filesystem, plain_reason
from semscale.datasets.tables.images import clean_path

_BATCH_BYTES = 16 * 2**20
_KEPT_BYTES = 64 * 2**20
_MOST_ROWS = 1_024


@dataclass(frozen=True)
class RowGroupReader:
    """Reader of images by ``file:row group:row``; `named` reads an image whose row has only its path."""

    root: str
    column: str
    named: Reader

    def read(self, place: str) -> bytes:
        """Return the bytes of an image. Raises OSError."""
        file, group, row = place.rsplit(":", 2)
        path = f"{self.root}/{file}"
        try:
            value = _group(path, _version(path), int(group), self.column).value(int(row))
        except (pa.ArrowException, OSError, IndexError) as error:
            raise OSError(f"row group {group} of {file.partition('?')[0]}: {plain_reason(error)}") from error
        return image_bytes(value, lambda path: self.named.read(clean_path(path)))


def image_bytes(cell: Any, read: Callable[[str], bytes]) -> bytes:
    """Return the image in a cell: its bytes, or what `read` returns for its path. Raises OSError."""
    content, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
    if content is None and path:
        return read(path)
    if not isinstance(content, bytes):
        raise OSError("the row has no image")
    if len(content) > MAX_FILE_BYTES:
        raise OSError(f"larger than {MAX_FILE_BYTES // 2**20} MiB")
    return content


def open_parquet(path: str, **options: Any) -> pq.ParquetFile:
    """Open a local or remote file; only its footer is read. Raises OSError or pyarrow.ArrowException."""
    fs, inner = open_filesystem(path)
    if is_local(path):
        return pq.ParquetFile(inner, **options)
    # what Parquet asks for is exact, and reading ahead would fetch images for a column of labels
    return pq.ParquetFile(fs.open(inner, "rb", cache_type="none"), **options)


class _Group:
    """One row group, read forwards; two threads may ask at once."""

    def __init__(self, path: str, group: int, column: str) -> None:
        self._path, self._number, self._column = path, group, column
        self._lock = threading.Lock()
        self._start()

    def value(self, row: int) -> Any:
        with self._lock:
            if self._kept and row < self._kept[0][0]:
                self._start()
            while row >= self._end:
                self._advance()
            first, values = next(one for one in reversed(self._kept) if one[0] <= row)
            return values[row - first].as_py()

    def _start(self) -> None:
        self._kept: deque[tuple[int, pa.Array]] = deque()
        self._end = 0
        self._batches = self._read()

    def _advance(self) -> None:
        try:
            batch = next(self._batches, None)
        except Exception:
            self._start()  # a generator that has raised is over, and would look like the end of the group
            raise
        if batch is None:
            raise IndexError("the file has changed since it was listed")
        self._kept.append((self._end, batch))
        self._end += len(batch)
        while len(self._kept) > 1 and sum(values.nbytes for _, values in self._kept) > _KEPT_BYTES:
            self._kept.popleft()

    def _read(self) -> Iterator[pa.Array]:
        with open_parquet(self._path, pre_buffer=False, buffer_size=2**20) as file:
            details = file.metadata.row_group(self._number)
            rows = max(1, min(_MOST_ROWS, _BATCH_BYTES * max(1, details.num_rows) // max(1, details.total_byte_size)))
            for batch in file.iter_batches(rows, row_groups=[self._number], columns=[self._column], use_threads=False):
                yield batch.column(0)


@lru_cache(maxsize=4)
def _group(path: str, version: tuple[int, int], group: int, column: str) -> _Group:
    return _Group(path, group, column)


def _version(path: str) -> tuple[int, int]:
    """Tell a local file that was written anew from the one that was read before."""
    if not is_local(path):
        return (0, 0)
    found = os.stat(open_filesystem(path)[1])
    return (found.st_mtime_ns, found.st_size)
