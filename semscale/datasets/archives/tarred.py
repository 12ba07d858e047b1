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

from semscale.datasets.archives.byte_ranges import read_gzip_range, read_range
from semscale.datasets.archives.members import (
    LINK,
    SPECIAL,
    archive_kind,
    damaged,
    member_name,
    open_archive,
    picks,
)
from semscale.datasets.source import Entry, Notes, Options, Source
from semscale.datasets.where import MAX_FILE_BYTES, REMOTE_READS, TOO_LARGE, location, stem
from semscale.errors import SemscaleError
from semscale.redact import shown

ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
"""What a tar's name ends in; the last four are found too, and refused when they are opened."""

_BLOCK = tarfile.BLOCKSIZE
_BUFFER = 2**17
_MAX_HEADER = 2**16  # tarfile parses extended headers in memory
_MAX_TAIL = 2**20
_MAX_RATIO, _FREE_BYTES = 1000, 100 * 2**20  # of a gzipped tar: whatever follows a member costs unpacking it
_LONG = 2**30
_SPARSE = "a sparse file in the archive, which is not read"
_DAMAGE = (tarfile.TarError, gzip.BadGzipFile, zlib.error, ValueError, OverflowError, RecursionError, MemoryError)


class TarMember(NamedTuple):
    """A file in a tar; `reason` says why it cannot be used as an image, None where it can.

    Offset and size are those of its data in the uncompressed stream.
    """

    name: str
    offset: int
    size: int
    reason: str | None


class TarReader(NamedTuple):
    """Reads images out of tars that every worker can reach.

    Attributes:
        root: what all paths begin with, absolute or a URL.
        parallel: number of concurrent reads that pay.
    """

    root: str
    parallel: int = 1

    def read(self, place: str) -> bytes:
        """Return the bytes of an image given by "offset:size:compression:rest of the tar's path". Raises OSError."""
        offset, size, compression, rest = place.split(":", 3)
        return (read_gzip_range if compression else read_range)(self.root + rest, int(offset), int(size))


def open_source(path: str, options: Options) -> Source:
    """Open a tar: ``<class>/...`` or ``<split>/<class>/...`` inside, or any names with a rule for the class."""
    notes = Notes()
    return Source(stem(path), open_reader(path), list_members(path, notes), notes, by_path=True, peel=True)


def open_reader(path: str) -> TarReader:
    """Return the reader of a tar."""
    compression, path = compression_of(path), location(path)
    return TarReader(path, REMOTE_READS if "://" in path and not compression else 1)


def list_members(path: str, notes: Notes) -> Iterator[Entry]:
    """List the images of a tar; it raises SemscaleError where the tar is missing, damaged or cut off."""
    compression, end = compression_of(path), 0
    with open_tar(path, compression) as tar:
        for member in tar:
            end = member.offset + member.size
            if picks(member.name, notes):
                place = "" if member.reason else f"{member.offset}:{member.size}:{compression}:"
                yield Entry(member.name, place, reason=member.reason)
    if compression and end > _LONG:
        notes.say("each worker unpacks the compressed tar from its start; a plain tar or a zip is read faster")


def compression_of(path: str) -> str:
    """Return how a tar is compressed: "gzip", or "" for none."""
    kind = archive_kind(path)
    if kind in ("", "gzip"):
        return kind
    raise SemscaleError(
        "this is not a tar archive that can be read",
        where=shown(path),
        found=kind,
        expected="a .tar or .tar.gz",
        hint="zip:PATH reads zip archives" if kind == "zip" else "recompress it as .tar.gz, or make it a plain .tar",
    )


@contextmanager
def open_tar(path: str, compression: str) -> Iterator[TarListing]:
    """Open a tar for its listing."""
    with open_archive(path) as file:
        length = file.seek(0, os.SEEK_END)
        file.seek(0)
        stream = _TarStream(gzip.GzipFile(fileobj=file) if compression else file)
        yield TarListing(stream, shown(path), max(_FREE_BYTES, _MAX_RATIO * length) if compression else None)


class TarListing:
    """Files of a tar, gone through once; the data of the last one can be read before the next one is taken."""

    def __init__(self, stream: _TarStream, archive: str, most_bytes: int | None) -> None:
        self._stream = stream
        self._archive = archive
        self._most_bytes = most_bytes
        self._last = ""

    def __iter__(self) -> Iterator[TarMember]:
        """Give the members, folders left out.

        Raises:
            SemscaleError: the archive is damaged or cut off, anywhere; the message names the last good member.
        """
        with self._faults(), tarfile.open(fileobj=self._stream, mode="r:", errors="surrogateescape") as tar:
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep every member in memory
                if info.size < 0:
                    raise ValueError("a header with a negative size")
                name = member_name(info.name)
                if self._most_bytes is not None and info.offset_data + info.size > self._most_bytes:
                    found = f"more than {_MAX_RATIO} times what is stored, at member {name}"
                    raise SemscaleError("the archive decompresses to absurd size", where=self._archive, found=found)
                self._last = name
                if not info.isdir():
                    yield TarMember(name, info.offset_data, info.size if info.isreg() else 0, _refusal(info))
            self._check_end(tar.offset)

    def read(self, member: TarMember) -> bytes:
        """Return the data of the member that was given last. Raises SemscaleError as the iteration does."""
        with self._faults():
            content = self._stream.read_at(member.offset, member.size)
            if len(content) < member.size:
                raise EOFError
        return content

    def _check_end(self, offset: int) -> None:
        """Check that tarfile stopped at the end mark, zero blocks and nothing else, and not at a damaged header."""
        tail = self._stream.read_at(offset, _MAX_TAIL)
        if len(tail) < _BLOCK:
            raise EOFError
        if any(tail[:_BLOCK]):
            raise tarfile.ReadError("no header")
        if any(tail):
            raise tarfile.ReadError("a damaged header, or another archive put behind this one,")

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, *_DAMAGE) as error:
            after = f"after member {self._last}" if self._last else "at the beginning"
            message = str(error) or type(error).__name__
            if isinstance(error, EOFError) or message in ("unexpected end of data", "truncated header"):
                hint = "copy or download it again"
                raise SemscaleError(
                    "the archive is cut off", where=self._archive, found=f"cut off {after}", hint=hint
                ) from error
            if not self._last and isinstance(error, (tarfile.TarError, ValueError)):
                expected = "a .tar or .tar.gz"
                raise SemscaleError(
                    "this is not a tar archive", where=self._archive, found=f"{message} {after}", expected=expected
                ) from error
            raise damaged(self._archive, f"{message} {after}") from error


class _TarStream(io.BufferedReader):
    """Uncompressed stream of a tar that refuses to read headers of absurd size into memory."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream, _BUFFER)

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _MAX_HEADER:
            raise tarfile.ReadError(f"an extended header of {size or 0:,} bytes")
        return super().read(size)

    def read_at(self, offset: int, size: int) -> bytes:
        self.seek(offset)
        return super().read(size)


def _refusal(info: tarfile.TarInfo) -> str | None:
    if info.issym() or info.islnk():
        return LINK
    if info.issparse():
        return _SPARSE
    if not info.isreg():
        return SPECIAL
    return TOO_LARGE if info.size > MAX_FILE_BYTES else None
