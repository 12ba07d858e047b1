"""Byte ranges of files on a disk or behind fsspec, plain or inside a gzip stream."""

from __future__ import annotations

import gzip
import os
import weakref
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
from typing import BinaryIO

from semscale.datasets.archives.members import open_file
from semscale.datasets.where import open_place, plain_reason

_BLOCK = 2**20
_WINDOW = 16 * 2**20
_WINDOWS_PER_ARCHIVE = 2  # a worker reads its next chunk while it still reads the last


def read_range(path: str, offset: int, size: int, least: int | None = None) -> bytes:
    """Return `size` bytes from an offset on; fewer, down to `least`, where the file ends. Raises OSError."""
    if "://" not in path:
        # opened each time: a file kept open would go on reading an archive that was replaced meanwhile
        with open(path, "rb") as file:
            file.seek(offset)
            content = file.read(size)
    else:
        fs, inner = open_place(path)
        with _os_errors():
            content = fs.cat_file(inner, start=offset, end=offset + size)
        if len(content) > size:
            raise OSError("the server does not give parts of a file")
    if len(content) < (size if least is None else least):
        raise OSError("the archive ends within the image")
    return content


def read_gzip_range(path: str, offset: int, size: int) -> bytes:
    """Return `size` bytes from an offset of a gzip file's uncompressed stream. Raises OSError.

    Each process goes through the stream once: it keeps two positions, each with the last 16 MiB before it.
    """
    status = os.stat(path) if "://" not in path else None
    lock, windows = _windows(path, (status.st_mtime_ns, status.st_size) if status else None)
    with lock:
        window = max((each for each in windows if each.start <= offset), key=lambda each: each.start, default=None)
        if window is not None:
            windows.remove(window)
        with _os_errors():
            window = window or _GzipWindow(open_file(path))
            content = window.read(offset, size)
        windows[:] = [*windows, window][-_WINDOWS_PER_ARCHIVE:]
    if len(content) < size:
        raise OSError("the archive ends within the image")
    return content


class _GzipWindow:
    """Gzip stream that is read forward and keeps the bytes from position `start` to where it stands."""

    def __init__(self, file: BinaryIO) -> None:
        self._stream = gzip.GzipFile(fileobj=file)
        self._bytes = bytearray()
        self.start = 0
        weakref.finalize(self, file.close)

    def read(self, offset: int, size: int) -> bytes:
        while self.start + len(self._bytes) < offset + size and (block := self._stream.read(_BLOCK)):
            self._bytes += block
            surplus = min(len(self._bytes) - _WINDOW, offset - self.start)
            if surplus > 0:
                del self._bytes[:surplus]
                self.start += surplus
        return bytes(self._bytes[offset - self.start : offset - self.start + size])


@lru_cache(maxsize=8)
def _windows(path: str, version: tuple[int, int] | None) -> tuple[Lock, list[_GzipWindow]]:
    return Lock(), []


@contextmanager
def _os_errors() -> Iterator[None]:
    """Turn what the packages behind fsspec and gzip raise into an OSError without URLs."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise OSError(f"the archive is damaged: {error}") from error
    except Exception as error:
        raise OSError(plain_reason(error)) from None
