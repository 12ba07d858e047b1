"""Compressed tars: streams that only go forward, kept open between reads so that each byte is unpacked about once."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import weakref
import zlib
from collections import deque
from functools import lru_cache
from threading import Lock
from typing import IO, BinaryIO, cast

from semscale.datasets.archives.ranges import open_raw, read_range
from semscale.datasets.archives.tarheaders import BombError

COMPRESSIONS = ("gzip", "bzip2", "xz")

_BLOCK = 2**20
_LOOK_BACK = 16
_STREAMS = 2
_FREE = 100 * 2**20
_MAX_RATIO = 1000


class ForwardStream:
    """A compressed file as a stream that goes forward, and back only as far as it keeps what it unpacked.

    Args:
        raw: the compressed file; it is closed when the stream is gone.
        compression: one of `COMPRESSIONS`.
        keep: how many MiB behind the front stay at hand.
    """

    def __init__(self, raw: BinaryIO, compression: str, keep: int = 1) -> None:
        self._raw = raw
        self._file = _unpacked(raw, compression)
        self._keep = keep
        self._blocks: deque[bytes] = deque()
        self._position = 0
        self.first = 0
        self.end = 0
        weakref.finalize(self, raw.close)

    def seek(self, position: int, /) -> None:
        """Go to a position of the unpacked stream, at the earliest `first`."""
        if position < self.first:
            raise ValueError(f"Expected a position from {self.first} on, but got {position}")
        self._position = position

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, fewer only at the end.

        Raises:
            EOFError: the compressed file is cut off.
            zlib.error, lzma.LZMAError: it is damaged.
            BombError: it unpacks to more than 1000 times its size, and to more than 100 MiB.
        """
        parts: list[bytes] = []
        while size > 0:
            while self.end <= self._position:
                if not self._pull():
                    return b"".join(parts)
            index, start = divmod(self._position - self.first, _BLOCK)
            part = self._blocks[index][start : start + size]
            parts.append(part)
            self._position += len(part)
            size -= len(part)
        return b"".join(parts)

    def _pull(self) -> bool:
        try:
            block = self._file.read(_BLOCK)
        except OSError as error:
            if error.errno is not None:
                raise
            raise zlib.error(str(error)) from error  # how gzip and bz2 speak of damage
        if not block:
            return False
        if len(self._blocks) == self._keep:
            self.first += len(self._blocks.popleft())
        self._blocks.append(block)
        self.end += len(block)
        if self.end > _FREE and self.end > _MAX_RATIO * self._raw.tell():
            raise BombError(f"more than {_MAX_RATIO} times what lies on the disk,")
        return True


def read_member(path: str, compression: str, offset: int, size: int) -> bytes:
    """Return the data of a tar's member.

    Args:
        path: the archive.
        compression: one of `COMPRESSIONS`, or "" for none.
        offset: where the data begin in the uncompressed stream.
        size: their length in bytes.

    Raises:
        OSError: they cannot be read.
    """
    if not compression:
        return read_range(path, offset, size)
    version = None
    if "://" not in path:
        status = os.stat(path)
        version = (status.st_mtime_ns, status.st_size)
    return _streams(path, compression, version).read(offset, size)


class _Streams:
    """The open streams of one archive: two, since a worker reads its next chunk while it still reads the last."""

    def __init__(self, path: str, compression: str) -> None:
        self._path = path
        self._compression = compression
        self._lock = Lock()
        self._open: list[ForwardStream] = []

    def read(self, offset: int, size: int) -> bytes:
        with self._lock:
            usable = [stream for stream in self._open if stream.first <= offset]
            if usable:
                stream = max(usable, key=lambda one: one.end)
                self._open.remove(stream)
            else:
                stream = ForwardStream(open_raw(self._path), self._compression, _LOOK_BACK)
            try:
                stream.seek(offset)
                content = stream.read(size)
            except (EOFError, zlib.error, lzma.LZMAError, BombError, MemoryError) as error:
                raise OSError(f"the archive is damaged: {error}") from error
            self._open = [*self._open, stream][-_STREAMS:]
        if len(content) < size:
            raise OSError("the archive ends within the image")
        return content


@lru_cache(maxsize=8)
def _streams(path: str, compression: str, version: tuple[int, int] | None) -> _Streams:
    return _Streams(path, compression)


def _unpacked(raw: BinaryIO, compression: str) -> IO[bytes]:
    if compression == "gzip":
        return cast(IO[bytes], gzip.GzipFile(fileobj=raw))
    return bz2.BZ2File(raw) if compression == "bzip2" else lzma.LZMAFile(raw)
