"""Images in tars, plain or gzipped: a listing by `tarfile` that is never silently short, and reads by offset."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from semscale.common.errors import DatasetError
from semscale.common.filesystem import MAX_FILE_BYTES, TOO_LARGE
from semscale.common.redact import shown
from semscale.datasets.archives.members import (
    LINK,
    SPECIAL,
    archive_kind,
    damaged,
    member_name,
    open_archive,
    picks,
    read_gzip_range,
    read_range,
)
from semscale.datasets.base import Entry, Notes

ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
"""What a tar's name ends in; the last four are found too, and refused when they are opened."""

MAX_READ = 2**20
"""Bytes that are read into memory at a time: extended headers, and the labels of shards."""

_BUFFER = 2**17
_MOST_KEYS = 100  # of pax headers: a global header's are gone through again for every member
_MAX_RATIO, _FREE_BYTES = 1000, 100 * 2**20  # of a gzipped tar: whatever follows a member costs unpacking it
_LONG = 2**30
_DAMAGE = (tarfile.TarError, gzip.BadGzipFile, zlib.error, ValueError, OverflowError, RecursionError, MemoryError)


class TarReader(NamedTuple):
    """Reads images out of tars whose paths or URLs begin with `root`; `parallel` reads at once pay."""

    root: str
    parallel: int = 1

    def read(self, place: str) -> bytes:
        """Return the bytes of an image given by "offset:size:compression:rest of the tar's path". Raises OSError."""
        offset, size, compression, rest = place.split(":", 3)
        return (read_gzip_range if compression else read_range)(self.root + rest, int(offset), int(size))


def list_members(path: str, notes: Notes) -> Iterator[Entry]:
    """List the images of a tar; it raises SemscaleError where the tar is missing, damaged or cut off."""
    compression, end = compression_of(path), 0
    with open_tar(path, compression) as tar:
        for name, member in tar:
            end = member.offset_data + member.size
            if picks(name, notes):
                reason = refusal(member)
                place = "" if reason else f"{member.offset_data}:{member.size}:{compression}:"
                yield Entry(name, place, reason=reason)
    if compression and end > _LONG:
        notes.say("each worker unpacks the compressed tar from its start; a plain tar or a zip is read faster")


def compression_of(path: str) -> str:
    """Return how a tar is compressed: "gzip", or "" for none."""
    kind = archive_kind(path)
    if kind not in ("", "gzip"):
        what, hint = "this is not a tar archive", "recompress it as .tar.gz, or make it a plain .tar"
        raise DatasetError(what, where=shown(path), found=kind, expected="a .tar or .tar.gz", hint=hint)
    return kind


@contextmanager
def open_tar(path: str, compression: str) -> Iterator[TarListing]:
    """Open a tar for its listing; damage anywhere is a SemscaleError that names the last good member."""
    with open_archive(path) as file:
        most = max(_FREE_BYTES, _MAX_RATIO * file.seek(0, os.SEEK_END)) if compression else None
        file.seek(0)
        listing = TarListing(_TarStream(gzip.GzipFile(fileobj=file) if compression else file), most)
        try:
            yield listing
        except (EOFError, *_DAMAGE) as error:
            message = str(error) or type(error).__name__
            after = f"after member {listing.last}" if listing.last else "at the beginning"
            if isinstance(error, EOFError) or message in ("unexpected end of data", "truncated header"):
                message = "cut off"
            elif not listing.last:
                message = f"this is not a tar archive ({message})"
            raise damaged(shown(path), f"{message} {after}") from error


class TarListing:
    """Files of a tar with their names, gone through once, folders left out."""

    def __init__(self, stream: _TarStream, most_bytes: int | None) -> None:
        self._stream = stream
        self._most_bytes = most_bytes
        self.last = ""

    def __iter__(self) -> Iterator[tuple[str, tarfile.TarInfo]]:
        with tarfile.open(fileobj=self._stream, mode="r:", errors="surrogateescape") as tar:
            while (info := self._stream.headers(tar)) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep every member in memory
                name = member_name(info.name)
                if len(info.pax_headers) > _MOST_KEYS:
                    raise tarfile.ReadError(f"an extended header of {len(info.pax_headers):,} keys")
                if info.size < 0:
                    raise tarfile.ReadError("a header with a negative size")
                if self._most_bytes is not None and info.offset_data + info.size > self._most_bytes:
                    raise tarfile.ReadError(f"member {name} decompresses to absurd size,")
                self.last = name
                if not info.isdir():
                    yield name, info
            # tarfile stops at the end mark, zero blocks and nothing else, and at a damaged header
            self._stream.seek(tar.offset)
            tail = self._stream.data(MAX_READ)
        if len(tail) < tarfile.BLOCKSIZE:
            raise EOFError
        if any(tail):
            raise tarfile.ReadError("a damaged header, or another archive put behind this one,")

    def read(self, member: tarfile.TarInfo) -> bytes:
        """Return the data of the member that was given last, at most `MAX_READ` bytes."""
        self._stream.seek(member.offset_data)
        content = self._stream.data(member.size)
        if len(content) < member.size:
            raise EOFError
        return content


class _TarStream(io.BufferedReader):
    """Uncompressed stream of a tar that refuses to read headers of absurd size into memory."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream, _BUFFER)
        self._n_header = 0

    def headers(self, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        """Return the next member, before which extended headers may follow each other."""
        self._n_header = 0
        return tar.next()

    def read(self, size: int | None = -1, /) -> bytes:
        size = 2**63 if size is None or size < 0 else size
        self._n_header += size
        if self._n_header > MAX_READ:
            raise tarfile.ReadError(f"an extended header of {size:,} bytes")
        return super().read(size)

    def data(self, size: int) -> bytes:
        """Return what is no header."""
        return super().read(size)


def refusal(info: tarfile.TarInfo) -> str | None:
    """Return why a member cannot be used as an image, None where it can."""
    if info.issym() or info.islnk():
        return LINK
    if info.issparse():
        return "a sparse file in the archive, which is not read"
    if not info.isreg():
        return SPECIAL
    return TOO_LARGE if info.size > MAX_FILE_BYTES else None
