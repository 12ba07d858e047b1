"""Tar archives, plain or gzipped: a listing by `tarfile` that detects truncation, and reads by byte offset."""

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
from semscale.common.redact import mask_url
from semscale.datasets.archives.members import (
    LINK,
    SPECIAL,
    archive_kind,
    damaged,
    is_listed,
    member_name,
    open_archive,
    read_gzip_range,
    read_range,
)
from semscale.datasets.dataset import ListedImage, ListingWarnings

ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
"""Endings of tars; the last four are listed by patterns, too, but rejected on opening."""

MAX_READ = 2**20
"""Maximum number of bytes read into memory: of extended headers, and of the labels of shards."""

_BUFFER = 2**17
_MAX_KEYS = 100  # of pax headers: tarfile iterates over those of a global header for every member
_MAX_RATIO, _FREE_BYTES = 1000, 100 * 2**20  # of a gzipped tar, which is decompressed sequentially
_LONG = 2**30
_DAMAGE = (tarfile.TarError, gzip.BadGzipFile, zlib.error, ValueError, OverflowError, RecursionError, MemoryError)


class TarReader(NamedTuple):
    """Reader of images in tars whose paths or URLs begin with `root`, by `parallel` concurrent reads."""

    root: str
    parallel: int = 1

    def read(self, location: str) -> bytes:
        """Return the bytes of an image at "offset:size:compression:path of the tar below the root". Raises OSError."""
        offset, size, compression, path = location.split(":", 3)
        return (read_gzip_range if compression else read_range)(self.root + path, int(offset), int(size))


def list_members(path: str, warnings: ListingWarnings) -> Iterator[ListedImage]:
    """Yield the images of a tar. Raises DatasetError if it is missing, damaged or truncated."""
    compression, end = compression_of(path), 0
    with open_tar(path, compression) as tar:
        for name, member in tar:
            end = member.offset_data + member.size
            if is_listed(name, warnings):
                reason = rejection_reason(member)
                location = "" if reason else f"{member.offset_data}:{member.size}:{compression}:"
                yield ListedImage(name, location, reason=reason)
    if compression and end > _LONG:
        warnings.add_line("each worker unpacks the compressed tar from its start; a plain tar or a zip is read faster")


def compression_of(path: str) -> str:
    """Return the compression of a tar: "gzip", or "" for none."""
    kind = archive_kind(path)
    if kind not in ("", "gzip"):
        what, hint = "this is not a tar archive", "recompress it as .tar.gz, or make it a plain .tar"
        raise DatasetError(what, where=mask_url(path), found=kind, expected="a .tar or .tar.gz", hint=hint)
    return kind


@contextmanager
def open_tar(path: str, compression: str) -> Iterator[TarListing]:
    """Open a tar for listing; damage raises a DatasetError that names the last intact member."""
    with open_archive(path) as file:
        max_bytes = max(_FREE_BYTES, _MAX_RATIO * file.seek(0, os.SEEK_END)) if compression else None
        file.seek(0)
        listing = TarListing(_TarStream(gzip.GzipFile(fileobj=file) if compression else file), max_bytes)
        try:
            yield listing
        except (EOFError, *_DAMAGE) as error:
            message = str(error) or type(error).__name__
            after = f"after member {listing.last_member}" if listing.last_member else "at the beginning"
            if isinstance(error, EOFError) or message in ("unexpected end of data", "truncated header"):
                message = "cut off"
            elif not listing.last_member:
                message = f"this is not a tar archive ({message})"
            raise damaged(mask_url(path), f"{message} {after}") from error


class TarListing:
    """Iterator over the names and headers of a tar's members, without folders."""

    def __init__(self, stream: _TarStream, max_bytes: int | None) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self.last_member = ""

    def __iter__(self) -> Iterator[tuple[str, tarfile.TarInfo]]:
        with tarfile.open(fileobj=self._stream, mode="r:", errors="surrogateescape") as tar:
            while (info := self._stream.headers(tar)) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep every member in memory
                name = member_name(info.name)
                if len(info.pax_headers) > _MAX_KEYS:
                    raise tarfile.ReadError(f"an extended header of {len(info.pax_headers):,} keys")
                if info.size < 0:
                    raise tarfile.ReadError("a header with a negative size")
                if self._max_bytes is not None and info.offset_data + info.size > self._max_bytes:
                    raise tarfile.ReadError(f"member {name} decompresses to absurd size,")
                self.last_member = name
                if not info.isdir():
                    yield name, info
            # tarfile stops at the end marker, which is zero blocks, and silently at a damaged header
            self._stream.seek(tar.offset)
            tail = self._stream.data(MAX_READ)
        if len(tail) < tarfile.BLOCKSIZE:
            raise EOFError
        if any(tail):
            raise tarfile.ReadError("a damaged header, or another archive appended to this one,")

    def read(self, member: tarfile.TarInfo) -> bytes:
        """Return the data of the member yielded last, at most `MAX_READ` bytes."""
        self._stream.seek(member.offset_data)
        content = self._stream.data(member.size)
        if len(content) < member.size:
            raise EOFError
        return content


class _TarStream(io.BufferedReader):
    """Uncompressed stream of a tar that limits the bytes of extended headers."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream, _BUFFER)
        self._n_header = 0

    def headers(self, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        """Return the next member, which several extended headers may precede."""
        self._n_header = 0
        return tar.next()

    def read(self, size: int | None = -1, /) -> bytes:
        size = 2**63 if size is None or size < 0 else size
        self._n_header += size
        if self._n_header > MAX_READ:
            raise tarfile.ReadError(f"an extended header of {size:,} bytes")
        return super().read(size)

    def data(self, size: int) -> bytes:
        """Return bytes that are no header, without the limit."""
        return super().read(size)


def rejection_reason(info: tarfile.TarInfo) -> str | None:
    """Return why a member cannot be used as an image, None if it can."""
    if info.issym() or info.islnk():
        return LINK
    if info.issparse():
        return "a sparse file in the archive, which is not read"
    if not info.isreg():
        return SPECIAL
    return TOO_LARGE if info.size > MAX_FILE_BYTES else None
