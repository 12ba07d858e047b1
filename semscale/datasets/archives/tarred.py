"""Images in tars, plain or gzipped: a listing by `tarfile` that is never silently short, and reads by offset."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from semscale.datasets.archives.byte_ranges import kind_of, open_archive, read_gzip_range, read_range
from semscale.datasets.archives.member_names import LINK, SPECIAL, member_name, picks
from semscale.datasets.source import Entry, Notes, Options, Source
from semscale.datasets.where import MAX_FILE_BYTES, REMOTE_READS, location, stem
from semscale.errors import SemscaleError
from semscale.redact import shown

_BLOCK = tarfile.BLOCKSIZE
_BUFFER = 2**17
_MAX_HEADER = 2**16  # tarfile parses extended headers in memory, and all global ones again for each member
_MAX_GLOBAL_KEYS = 100
_MAX_TAIL = 2**20
_MAX_SKIPPED = 2**30  # of a gzipped tar: whatever follows a member costs unpacking it
_MAX_RATIO, _FREE_BYTES = 1000, 100 * 2**20
_LONG = 2**30
_SPARSE = "a sparse file in the archive, which is not read"
_DAMAGE = (tarfile.TarError, gzip.BadGzipFile, zlib.error, ValueError, OverflowError, RecursionError, MemoryError)


@dataclass(frozen=True)
class TarMember:
    """A file in a tar.

    Attributes:
        name: its path, as tables show it.
        offset: where its data begin in the uncompressed stream.
        size: of its data, in bytes.
        reason: why it cannot be used as an image: a link, a device, a sparse file, too large; None where it can.
    """

    name: str
    offset: int
    size: int
    reason: str | None


@dataclass(frozen=True)
class TarReader:
    """Reads images out of a tar that every worker can reach.

    Attributes:
        path: the archive, absolute or a URL.
        compression: "gzip", or "" for none.
        parallel: number of concurrent reads that pay.
    """

    path: str
    compression: str = ""
    parallel: int = 1

    def read(self, place: str) -> bytes:
        """Return the bytes of an image given by "offset:size" in the uncompressed stream. Raises OSError."""
        offset, size = map(int, place.split(":"))
        return read_tar_member(self.path, self.compression, offset, size)


def read_tar_member(path: str, compression: str, offset: int, size: int) -> bytes:
    """Return `size` bytes from an offset of a tar's uncompressed stream. Raises OSError."""
    return (read_gzip_range if compression else read_range)(path, offset, size)


def open_source(path: str, options: Options) -> Source:
    """Open a tar: ``<class>/...`` or ``<split>/<class>/...`` inside, or any names with a rule for the class.

    Raises:
        SemscaleError: the archive is missing, or no tar.
    """
    notes = Notes()
    return Source(stem(path), open_reader(path), list_members(path, notes), notes, by_path=True, peel=True)


def open_reader(path: str) -> TarReader:
    """Return the reader of a tar. Raises SemscaleError if it is missing, or no tar."""
    compression, path = compression_of(path), location(path)
    return TarReader(path, compression, REMOTE_READS if "://" in path and not compression else 1)


def list_members(path: str, notes: Notes) -> Iterator[Entry]:
    """List the images of a tar.

    Raises:
        SemscaleError: the archive is missing, damaged or cut off.
    """
    compression, end = compression_of(path), 0
    with open_tar(path, compression) as tar:
        for member in tar:
            end = member.offset + member.size
            if picks(member.name, notes):
                place = "" if member.reason else f"{member.offset}:{member.size}"
                yield Entry(member.name, place, reason=member.reason)
    if compression and end > _LONG:
        notes.say("each worker unpacks the compressed tar from its start; a plain tar or a zip is read faster")


def compression_of(path: str) -> str:
    """Return how a tar is compressed: "gzip", or "" for none.

    Raises:
        SemscaleError: it is missing, or an archive of another kind.
    """
    kind = kind_of(path)
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
    """Open a tar for its listing.

    Raises:
        SemscaleError: the archive is missing; going through the members raises more.
    """
    with open_archive(path) as file:
        length = file.seek(0, os.SEEK_END)
        file.seek(0)
        stream = _TarStream(gzip.GzipFile(fileobj=file) if compression else file)
        yield TarListing(stream, shown(path), length, bool(compression))


class TarListing:
    """The files of a tar, gone through once; between two of them the data of the first can be read."""

    def __init__(self, stream: _TarStream, archive: str, length: int, compressed: bool) -> None:
        self._stream = stream
        self._archive = archive
        self._length = length
        self._compressed = compressed
        self._last = ""

    def __iter__(self) -> Iterator[TarMember]:
        """Give the members, folders left out.

        Raises:
            SemscaleError: the archive is damaged or cut off, anywhere; the message names the last good member.
        """
        with self._faults(), tarfile.open(fileobj=self._stream, mode="r:", errors="surrogateescape") as tar:
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep every member in memory
                if info.size < 0 or len(tar.pax_headers) > _MAX_GLOBAL_KEYS:
                    raise ValueError("a header with a negative size or too many fields")
                name = member_name(info.name)
                if self._compressed:
                    self._check_size(name, info)
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

    def _check_size(self, name: str, info: tarfile.TarInfo) -> None:
        if info.size > _MAX_SKIPPED:
            raise SemscaleError(
                "a member of the compressed archive is too large to be read over",
                where=self._archive,
                found=f"{name}, {info.size:,} bytes",
                expected=f"at most {_MAX_SKIPPED:,} bytes",
                hint="an uncompressed tar may have members of any size",
            )
        if info.offset_data + info.size > max(_FREE_BYTES, _MAX_RATIO * self._length):
            raise SemscaleError(
                "the archive decompresses to absurd size",
                where=self._archive,
                found=f"more than {_MAX_RATIO} times what is stored, at member {name}",
            )

    def _check_end(self, offset: int) -> None:
        """Check that tarfile stopped at the end mark, zero blocks and nothing else, and not at a damaged header."""
        tail = self._stream.read_at(offset, _MAX_TAIL)
        if len(tail) < _BLOCK:
            raise EOFError
        if tail.count(0) < len(tail):
            raise tarfile.ReadError(
                "a damaged header, or another archive put behind this one," if not any(tail[:_BLOCK]) else "no header"
            )

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, *_DAMAGE) as error:
            after = f"after member {self._last}" if self._last else "at the beginning"
            cut_off = isinstance(error, EOFError) or str(error) in ("unexpected end of data", "truncated header")
            no_tar = not self._last and not cut_off and isinstance(error, (tarfile.TarError, ValueError))
            problem = "this is not a tar archive" if no_tar else "the archive is damaged"
            raise SemscaleError(
                "the archive is cut off" if cut_off else problem,
                where=self._archive,
                found=f"cut off {after}" if cut_off else f"{str(error) or type(error).__name__} {after}",
                expected="a .tar or .tar.gz" if no_tar else None,
                hint=None if no_tar else "copy or download it again",
            ) from error


class _TarStream(io.BufferedReader):
    """The uncompressed stream of a tar, which refuses to read headers of absurd size into memory."""

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
    return f"larger than {MAX_FILE_BYTES // 2**20} MiB" if info.size > MAX_FILE_BYTES else None
