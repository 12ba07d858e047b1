"""Archives as files: what kind one is, opening it for the listing, and reading a range of it on a worker."""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from semscale.datasets.where import is_missing, open_place, plain_reason
from semscale.errors import SemscaleError
from semscale.redact import shown

_REMOTE_BUFFER = 2**20

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


@contextmanager
def open_archive(path: str) -> Iterator[BinaryIO]:
    """Open an archive; faults of the storage while it is open become user errors.

    Raises:
        SemscaleError: it does not exist, is a folder, or cannot be read.
    """
    try:
        with open_raw(path) as file:
            yield file
    except FileNotFoundError as error:
        raise SemscaleError("the archive does not exist", where=shown(path), expected="a file") from error
    except IsADirectoryError as error:
        raise SemscaleError(
            "this is a folder and not an archive", where=shown(path), hint="folder:PATH reads folders"
        ) from error
    except OSError as error:
        found = error.strerror or str(error)
        hint = "download the archive first" if "range requests" in found else None
        raise SemscaleError("the archive cannot be read", where=shown(path), found=found, hint=hint) from error


def open_raw(path: str) -> BinaryIO:
    """Open an archive; whatever goes wrong while it is read is an OSError."""
    if "://" not in path:
        return open(path, "rb")
    fs, inner = open_place(path)
    with _remote_faults(path):
        return io.BufferedReader(_Guarded(fs.open(inner, "rb"), path), _REMOTE_BUFFER)


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
        # opened each time, as in a folder: a kept one would go on reading an archive that was replaced meanwhile
        with open(path, "rb") as file:
            file.seek(offset)
            content = file.read(size)
    else:
        fs, inner = open_place(path)
        with _remote_faults(path):
            content = fs.cat_file(inner, start=offset, end=offset + size)
        if len(content) > size:
            raise OSError("the server does not give parts of a file")
    if len(content) < (size if least is None else least):
        raise OSError("the archive ends within the image")
    return content


class _Guarded(io.RawIOBase):
    """A remote file whose errors are OSErrors with a number, as those of a disk are."""

    def __init__(self, file: Any, path: str) -> None:
        self._file = file
        self._path = path

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return int(self._file.tell())

    def seek(self, position: int, whence: int = 0, /) -> int:
        with _remote_faults(self._path):
            return int(self._file.seek(position, whence))

    def readinto(self, buffer: Any, /) -> int:
        with _remote_faults(self._path):
            content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


@contextmanager
def _remote_faults(path: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if is_missing(error):
            raise FileNotFoundError(errno.ENOENT, f"there is no {shown(path)}") from None
        raise OSError(errno.EIO, plain_reason(error)) from None
