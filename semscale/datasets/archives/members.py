"""Archive access shared by all kinds: opening, member names, byte ranges; nothing is ever extracted."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
from typing import BinaryIO

from semscale.common.errors import DatasetError, SemscaleError
from semscale.common.files import open_regular_file
from semscale.common.filesystem import failure_reason, is_hidden, is_missing, open_file, open_filesystem
from semscale.common.redact import mask_url
from semscale.datasets.dataset import ListingWarnings, accepts_file

LINK = "a link in the archive, not followed"
SPECIAL = "neither a file nor a folder in the archive"

_KINDS = {b"PK": "zip", b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd", b"7z": "7z"}
_UNUSUAL = re.compile(r"[\\\x00\udc80-\udcff]|(^|/)\.{0,2}(/|$)")

_MAX_STREAMS = 4  # per archive: a worker reads a chunk while it still reads the one before


@contextmanager
def open_archive(path: str) -> Iterator[BinaryIO]:
    """Open an archive for listing; storage errors while it is open become DatasetError."""
    try:
        with open_file(path) as file:
            yield file
    except SemscaleError:
        raise
    except Exception as error:  # the packages behind fsspec raise nearly anything
        if "://" not in path and not isinstance(error, OSError):
            raise
        if is_missing(error):
            raise DatasetError("the archive does not exist", where=mask_url(path), expected="a file") from error
        found, hint = failure_reason(error), None
        if isinstance(error, IsADirectoryError):
            hint = "folder:PATH reads folders"
        elif "range requests" in found:
            hint = "download the archive first"
        raise DatasetError("the archive cannot be read", where=mask_url(path), found=found, hint=hint) from error


def archive_kind(path: str) -> str:
    """Return the kind of an archive by its first bytes: zip, gzip, bzip2, xz, zstd, 7z, or "" for others."""
    with open_archive(path) as file:
        return _KINDS.get(file.read(2), "")


def damaged(archive: str, found: str) -> DatasetError:
    """Return the error for an archive that is truncated or contradicts its directory or headers."""
    return DatasetError("the archive is damaged", where=archive, found=found, hint="copy or download it again")


def member_name(raw: str) -> str:
    r"""Return a member's name as a label: forward slashes, no ``.`` or ``..``, bytes that are not UTF-8 as ``\xe9``."""
    if not _UNUSUAL.search(raw):
        return raw
    parts = [part for part in raw.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return "/".join(parts).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\0", r"\x00")


def is_listed(name: str, warnings: ListingWarnings) -> bool:
    """Return whether a member is an image by its ending, and warn about others unless they are hidden."""
    return bool(name) and not is_hidden(name) and accepts_file(name, warnings)


def read_range(path: str, offset: int, size: int, least: int | None = None) -> bytes:
    """Return `size` bytes at an offset; fewer, but at least `least`, at the end of the file. Raises OSError."""
    if "://" not in path:
        # reopened for each read: an open file would still read an archive that has been replaced
        with open_regular_file(path) as file:
            file.seek(offset)
            content = file.read(size)
    else:
        fs, inner = open_filesystem(path)
        with _os_errors():
            content = fs.cat_file(inner, start=offset, end=offset + size)
        if len(content) > size:
            raise OSError("the server does not support range requests")
    if len(content) < (size if least is None else least):
        raise OSError("the archive ends within the image")
    return content


def read_gzip_range(path: str, offset: int, size: int) -> bytes:
    """Return `size` bytes at an offset of a gzip file's uncompressed stream. Raises OSError.

    A process keeps a few open streams, so that reads in ascending order decompress the file once.
    """
    status = os.stat(path) if "://" not in path else None
    lock, streams = _streams(path, (status.st_mtime_ns, status.st_size) if status else None)
    with lock, _os_errors():
        behind = (stream for stream in streams if stream.tell() <= offset)
        stream = max(behind, key=gzip.GzipFile.tell, default=None)
        if stream is not None:
            streams.remove(stream)
        else:
            stream = gzip.GzipFile(fileobj=open_file(path))
        stream.seek(offset)
        content = stream.read(size)
        streams[:] = [*streams, stream][-_MAX_STREAMS:]
    if len(content) < size:
        raise OSError("the archive ends within the image")
    return content


@lru_cache(maxsize=8)
def _streams(path: str, version: tuple[int, int] | None) -> tuple[Lock, list[gzip.GzipFile]]:
    return Lock(), []


@contextmanager
def _os_errors() -> Iterator[None]:
    """Convert the exceptions of gzip and of the packages behind fsspec to OSError without URLs."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise OSError(f"the archive is damaged: {error}") from error
    except Exception as error:
        raise OSError(failure_reason(error)) from error
