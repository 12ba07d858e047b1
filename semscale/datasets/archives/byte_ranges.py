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

from semscale.datasets.archives.members import open_file
from semscale.datasets.filesystem import open_filesystem, plain_reason

_POSITIONS = 4  # per archive: a worker reads its next chunk while it still reads the last


def read_range(path: str, offset: int, size: int, least: int | None = None) -> bytes:
    """Return `size` bytes from an offset on; fewer, down to `least`, where the file ends. Raises OSError."""
    if "://" not in path:
        # opened each time: a file kept open would go on reading an archive that was replaced meanwhile
        with open(path, "rb") as file:
            file.seek(offset)
            content = file.read(size)
    else:
        fs, inner = open_filesystem(path)
        with _os_errors():
            content = fs.cat_file(inner, start=offset, end=offset + size)
        if len(content) > size:
            raise OSError("the server does not give parts of a file")
    if len(content) < (size if least is None else least):
        raise OSError("the archive ends within the image")
    return content


def read_gzip_range(path: str, offset: int, size: int) -> bytes:
    """Return `size` bytes from an offset of a gzip file's uncompressed stream. Raises OSError.

    Each process goes through the stream once, as far as its reads are in order: it keeps a few positions.
    """
    status = os.stat(path) if "://" not in path else None
    lock, streams = _streams(path, (status.st_mtime_ns, status.st_size) if status else None)
    with lock, _os_errors():
        stream = max((each for each in streams if each.tell() <= offset), key=gzip.GzipFile.tell, default=None)
        if stream is not None:
            streams.remove(stream)
        else:
            file = open_file(path)
            stream = gzip.GzipFile(fileobj=file)
            weakref.finalize(stream, file.close)
        stream.seek(offset)
        content = stream.read(size)
        streams[:] = [*streams, stream][-_POSITIONS:]
    if len(content) < size:
        raise OSError("the archive ends within the image")
    return content


@lru_cache(maxsize=8)
def _streams(path: str, version: tuple[int, int] | None) -> tuple[Lock, list[gzip.GzipFile]]:
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
