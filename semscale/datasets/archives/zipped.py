"""Images in a zip, on a disk or anywhere that fsspec reaches; workers go straight to a member."""

from __future__ import annotations

import bz2
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from semscale.datasets.archives.members import LINK, SPECIAL, picks
from semscale.datasets.archives.ranges import kind_of, open_archive, read_range
from semscale.datasets.archives.zipdirectory import Member, walk
from semscale.datasets.source import Entry, Notes, Options, Source
from semscale.datasets.where import MAX_FILE_BYTES, REMOTE_READS, location, stem
from semscale.errors import SemscaleError
from semscale.redact import shown

_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_SLACK = 512  # what a local header's name and extra fields take, all but always
_ENCRYPTED = 0x1 | 0x40
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
_OTHERS = {9: "Deflate64", 14: "LZMA", 93: "Zstandard", 95: "XZ", 98: "PPMd"}
_PASSWORD = "encrypted with a password"
_LARGE = f"larger than {MAX_FILE_BYTES // 2**20} MiB"


@dataclass(frozen=True)
class ZipReader:
    """Reads images out of a zip that every worker can reach.

    Attributes:
        path: the archive, absolute or a URL.
        parallel: reads at once that pay.
    """

    path: str
    parallel: int = 1

    def read(self, place: str) -> bytes:
        """Return the bytes of an image given by "header offset:compressed size:size:method:CRC-32".

        Raises:
            OSError: the archive cannot be read there, or the member is not what the directory says.
        """
        offset, packed, size, method, crc = map(int, place.split(":"))
        head = read_range(self.path, offset, _LOCAL.size + _SLACK + packed, least=_LOCAL.size)
        signature, _, flags, _, _, _, _, _, _, name_length, extra_length = _LOCAL.unpack_from(head)
        if signature != b"PK\x03\x04":
            raise OSError("the archive has no member where its directory says")
        if flags & _ENCRYPTED:
            raise OSError(_PASSWORD)
        start = _LOCAL.size + name_length + extra_length
        data = head[start : start + packed]
        if len(data) < packed:
            data = read_range(self.path, offset + start, packed)
        content = _unpack(data, size, method)
        if zlib.crc32(content) != crc:
            raise OSError("the member is damaged: its CRC-32 is not what the directory says")
        return content


def _unpack(data: bytes, size: int, method: int) -> bytes:
    """Return a member's content, never more than one byte beyond its declared size. Raises OSError."""
    if method == zipfile.ZIP_STORED:
        content = data
    else:
        try:
            if method == zipfile.ZIP_DEFLATED:
                content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
            else:
                content = bz2.BZ2Decompressor().decompress(data, size + 1)
        except (zlib.error, OSError, ValueError) as error:
            raise OSError(f"the member is damaged: {error}") from error
    if len(content) != size:
        found = f"more than {size}" if len(content) > size else str(len(content))
        raise OSError(f"the member has {found} bytes where the directory says {size}")
    return content


def open_source(path: str, options: Options) -> Source:
    """Open a zip: ``<class>/...`` or ``<split>/<class>/...`` inside, or any names with a rule for the class.

    Raises:
        SemscaleError: the archive is missing, or no zip.
    """
    notes = Notes()
    reader = open_reader(path)
    return Source(stem(path), reader, list_members(path, notes), notes, by_path=True, peel=True)


def open_reader(path: str) -> ZipReader:
    """Return the reader of a zip.

    Raises:
        SemscaleError: the archive is missing, or of another kind.
    """
    kind = kind_of(path)
    if kind not in ("zip", ""):  # a self-extracting one begins with a program
        raise SemscaleError("this is not a zip archive", where=shown(path), found=kind, hint="tar:PATH reads tars")
    path = location(path)
    return ZipReader(path, REMOTE_READS if "://" in path else 1)


def list_members(path: str, notes: Notes) -> Iterator[Entry]:
    """List the images of a zip, in the order of its directory.

    Raises:
        SemscaleError: the archive is missing, damaged, cut off, or has a member that it should not have.
    """
    path = location(path)
    with open_archive(path) as file:
        for member in walk(file, shown(path)):
            name, offset, packed, size, method, _, _, crc = member
            if name.endswith("/") or not picks(name, notes):
                continue
            reason = _refusal(member)
            yield Entry(name, "" if reason else f"{offset}:{packed}:{size}:{method}:{crc}", reason=reason)


def _refusal(member: Member) -> str | None:
    kind = stat.S_IFMT(member.mode)
    if kind == stat.S_IFLNK:
        return LINK
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return SPECIAL
    if member.flags & _ENCRYPTED:
        return _PASSWORD
    if member.method not in _METHODS:
        name = _OTHERS.get(member.method, f"method {member.method}")
        return f"compressed by {name}, which is not read; stored, deflate and bzip2 are"
    return _LARGE if max(member.size, member.packed) > MAX_FILE_BYTES else None
