"""Images in a tar, compressed or not, on a disk or anywhere that fsspec reaches; nothing is ever unpacked to a disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from semscale.datasets.archives.forward import COMPRESSIONS, ForwardStream, read_member
from semscale.datasets.archives.members import picks
from semscale.datasets.archives.ranges import kind_of, open_archive
from semscale.datasets.archives.tarheaders import Member, Tar
from semscale.datasets.source import Entry, Notes, Options, Source
from semscale.datasets.where import MAX_FILE_BYTES, REMOTE_READS, location, stem
from semscale.errors import SemscaleError
from semscale.redact import shown

MAX_SKIP = 2**30
"""A larger member of a compressed tar is refused, since whatever follows it costs unpacking it."""


_LONG = 2**30


@dataclass(frozen=True)
class TarReader:
    """Reads images out of a tar that every worker can reach.

    A compressed tar has no way to its middle: each process goes through it from the start, once, and keeps its place.

    Attributes:
        path: the archive, absolute or a URL.
        compression: gzip, bzip2, xz, or "" for none.
        parallel: reads at once that pay.
    """

    path: str
    compression: str = ""
    parallel: int = 1

    def read(self, place: str) -> bytes:
        """Return the bytes of an image given by "offset:size" in the uncompressed stream. Raises OSError."""
        offset, size = place.split(":")
        return read_member(self.path, self.compression, int(offset), int(size))


def open_source(path: str, options: Options) -> Source:
    """Open a tar: ``<class>/...`` or ``<split>/<class>/...`` inside, or any names with a rule for the class.

    Raises:
        SemscaleError: the archive is missing, or no tar.
    """
    notes = Notes()
    reader = open_reader(path)
    return Source(stem(path), reader, list_members(path, notes), notes, by_path=True, peel=True)


def open_reader(path: str) -> TarReader:
    """Return the reader of a tar.

    Raises:
        SemscaleError: the archive is missing, or no tar.
    """
    compression = compression_of(path)
    return TarReader(location(path), compression, REMOTE_READS if "://" in location(path) and not compression else 1)


def list_members(path: str, notes: Notes) -> Iterator[Entry]:
    """List the images of a tar.

    Raises:
        SemscaleError: the archive is missing, damaged, cut off, or has a member that it should not have.
    """
    compression = compression_of(path)
    end = 0
    with open_tar(path, compression) as tar:
        for member in tar:
            end = member.offset + member.size
            if picks(member.name, notes):
                reason = refusal(member)
                yield Entry(member.name, "" if reason else f"{member.offset}:{member.size}", reason=reason)
    if compression and end > _LONG:
        notes.say("each worker unpacks the compressed tar from its start; a plain tar or a zip is read faster")


def refusal(member: Member) -> str | None:
    """Return why a member cannot be used as an image, if so."""
    if member.reason is None and member.size > MAX_FILE_BYTES:
        return f"larger than {MAX_FILE_BYTES // 2**20} MiB"
    return member.reason


def compression_of(path: str) -> str:
    """Return how a tar is compressed: gzip, bzip2, xz, or "".

    Raises:
        SemscaleError: it is missing, or an archive of another kind.
    """
    kind = kind_of(path)
    if kind == "" or kind in COMPRESSIONS:
        return kind
    raise SemscaleError(
        "this is not a tar archive that can be read",
        where=shown(path),
        found=kind,
        expected="a .tar, .tar.gz, .tar.bz2 or .tar.xz",
        hint="zip:PATH reads zip archives" if kind == "zip" else "make it a plain tar",
    )


@contextmanager
def open_tar(path: str, compression: str) -> Iterator[Tar]:
    """Open a tar for its listing.

    Raises:
        SemscaleError: the archive is missing; going through the members raises more.
    """
    path = location(path)
    with open_archive(path) as file:
        if compression:
            yield Tar(ForwardStream(file, compression), shown(path), None, MAX_SKIP)
        else:
            length = file.seek(0, os.SEEK_END)
            file.seek(0)
            yield Tar(file, shown(path), length)
