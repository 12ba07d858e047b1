"""Byte ranges of archives on a disk or behind fsspec, and forward reading of gzip streams."""

from __future__ import annotations

import gzip
import os
import weakref
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
from typing import BinaryIO, cast

from semscale.datasets.where import is_missing, location, open_place, plain_reason
from semscale.errors import SemscaleError
from semscale.redact import shown

_MAGIC = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "rar",
}
_BLOCK = 2**20
_WINDOW = 16 * 2**20
_WINDOWS_PER_ARCHIVE = 2  # a worker reads its next chunk while it still reads the last


@contextmanager
def open_archive(path: str) -> Iterator[BinaryIO]:
    """Open an archive for its listing; faults of the storage while it is open become user errors.

    Raises:
        SemscaleError: it does not exist, is a folder, or cannot be read.
    """
    try:
        with _open(path) as file:
            yield file
    except SemscaleError:
        raise
    except IsADirectoryError as error:
        raise SemscaleError(
            "this is a folder and not an archive", where=shown(path), hint="folder:PATH reads folders"
        ) from error
    except Exception as error:  # the packages behind fsspec raise nearly anything
        if is_missing(error):
            raise SemscaleError("the archive does not exist", where=shown(path), expected="a file") from error
        if "://" not in path and not isinstance(error, OSError):
            raise
        found = plain_reason(error)
        hint = "download the archive first" if "range requests" in found else None
        raise SemscaleError("the archive cannot be read", where=shown(path), found=found, hint=hint) from error


def kind_of(path: str) -> str:
    """Return what an archive is by its first bytes: zip, gzip, bzip2, xz, zstd, 7z, rar, or "" for anything else.

    Raises:
        SemscaleError: it cannot be opened.
    """
    with open_archive(path) as file:
        head = file.read(8)
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "")


def read_range(path: str, offset: int, size: int, least: int | None = None) -> bytes:
    """Return `size` bytes from an offset on; fewer, down to `least`, where the file ends.

    Raises:
        OSError: it cannot be read, or ends earlier.
    """
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
    """Return `size` bytes from an offset of a gzip file's uncompressed stream.

    Each process goes through the stream once: it keeps two positions, each with the last 16 MiB before it.

    Raises:
        OSError: it cannot be read, is damaged, or ends earlier.
    """
    status = os.stat(path) if "://" not in path else None
    lock, windows = _windows(path, (status.st_mtime_ns, status.st_size) if status else None)
    with lock:
        usable = [window for window in windows if window.start <= offset]
        window = max(usable, key=lambda candidate: candidate.start) if usable else None
        if window is not None:
            windows.remove(window)
        with _os_errors():
            window = window or _GzipWindow(_open(path))
            content = window.read(offset, size)
        windows[:] = [*windows, window][-_WINDOWS_PER_ARCHIVE:]
    if len(content) < size:
        raise OSError("the archive ends within the image")
    return content


class _GzipWindow:
    """A gzip stream that is read forward and keeps the bytes from position `start` to where it stands."""

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


def _open(path: str) -> BinaryIO:
    if "://" not in path:
        return open(location(path), "rb")
    fs, inner = open_place(path)
    return cast(BinaryIO, fs.open(inner, "rb"))


@contextmanager
def _os_errors() -> Iterator[None]:
    """Turn what the packages behind fsspec and gzip raise into an OSError without URLs."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise OSError(f"the archive is damaged: {error}") from error
    except Exception as error:
        raise OSError(plain_reason(error)) from None
