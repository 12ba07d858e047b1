"""Images in zips: a listing by `zipfile`, and stateless reads of single members."""

from __future__ import annotations

import io
import itertools
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO, NamedTuple

from semscale.common.errors import DatasetError
from semscale.common.filesystem import MAX_FILE_BYTES, TOO_LARGE
from semscale.common.redact import shown
from semscale.datasets.archives.members import LINK, SPECIAL, damaged, member_name, open_archive, picks, read_range
from semscale.datasets.base import Entry, Notes

_LOCAL_HEADER = 30  # bytes, without the name
_SLACK = 512  # what a local header's name and extra fields take, all but always
_ENCRYPTED, _UTF8 = 0x1 | 0x40, 0x800
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
_PASSWORD = "encrypted with a password"
_MAX_COMMENT = 2**16 + 22  # the record at the end of a zip, with the longest comment behind it


class ZipReader(NamedTuple):
    """Reads images out of a zip at a path or URL, without its directory; `parallel` reads at once pay."""

    path: str
    parallel: int = 1

    def read(self, place: str) -> bytes:
        """Return an image's bytes by "header offset:compressed size:size:method:CRC-32". Raises OSError."""
        info = zipfile.ZipInfo()
        offset, info.compress_size, info.file_size, info.compress_type, info.CRC = map(int, place.split(":"))
        head = read_range(self.path, offset, _LOCAL_HEADER + _SLACK + info.compress_size, least=_LOCAL_HEADER)
        signature, flags, name_length, extra_length = struct.unpack_from("<4s2xH18xHH", head)
        if signature != b"PK\x03\x04":
            raise OSError("the archive has no member where its directory says")
        if flags & _ENCRYPTED:
            raise OSError(_PASSWORD)
        start = _LOCAL_HEADER + name_length + extra_length
        data = head[start : start + info.compress_size]
        if len(data) < info.compress_size:
            data = read_range(self.path, offset + start, info.compress_size)
        try:
            content = zipfile.ZipExtFile(io.BytesIO(data), "r", info).read()
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError) as error:
            raise OSError(f"the member is damaged: {error}") from error
        if len(content) != info.file_size:
            raise OSError(f"the member has {len(content)} bytes where the directory says {info.file_size}")
        return content


def list_members(path: str, notes: Notes) -> Iterator[Entry]:
    """List the images of a zip in the order of its directory; it raises SemscaleError where that is damaged."""
    with open_archive(path) as file:
        for info in _directory(file, shown(path)):
            decoded, sure = _decoded(info)
            name = member_name(decoded)
            if not info.filename.endswith("/") and picks(name, notes):
                if not sure:
                    notes.add("names are in an unknown code page, and are read as cp437", name)
                reason = _refusal(info)
                place = f"{info.header_offset}:{info.compress_size}:{info.file_size}:{info.compress_type}:{info.CRC}"
                yield Entry(name, "" if reason else place, reason=reason)


def _directory(file: BinaryIO, archive: str) -> list[zipfile.ZipInfo]:
    """Return the members of a zip, checked: all that are counted, inside the archive, none over another."""
    try:
        opened = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, IndexError, struct.error) as error:
        found = str(error) or type(error).__name__
        if "not a zip" not in found:
            raise damaged(archive, found) from error
        file.seek(0)
        if file.read(4) == b"PK\x03\x04":
            raise damaged(archive, "cut off: its directory is missing") from error
        raise DatasetError("this is not a zip archive", where=archive, found=found) from error
    members = opened.infolist()
    start = max(0, file.seek(0, io.SEEK_END) - _MAX_COMMENT)
    file.seek(start)
    tail = file.read(_MAX_COMMENT)
    (counted,) = struct.unpack_from("<H", tail, tail.rfind(b"PK\x05\x06") + 10)
    if counted not in (0xFFFF, len(members) % 2**16):  # Zip64, or writers without it that count modulo 65,536
        raise damaged(archive, f"its directory, which has {len(members)} of {counted} members")
    starts = sorted((info.header_offset, info.compress_size, info.filename) for info in members)
    spans = [(start, start + _LOCAL_HEADER + size, name) for start, size, name in starts]
    bounds = [(0, 0, ""), *spans, (opened.start_dir, 0, "its directory")]
    for (_, end, _), (start, _, name) in itertools.pairwise(bounds):
        if end > start:
            raise damaged(archive, f"{name} shares its data with another member, as in a decompression bomb")
    return members


def _decoded(info: zipfile.ZipInfo) -> tuple[str, bool]:
    """Return a member's name, and whether its letters are known."""
    # macOS and many a tool write UTF-8 without the flag; text of another code page is all but never valid UTF-8
    with suppress(UnicodeError):
        return info.filename if info.flag_bits & _UTF8 else info.filename.encode("cp437").decode("utf-8"), True
    return info.filename, False


def _refusal(info: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return LINK
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return SPECIAL
    if info.flag_bits & _ENCRYPTED:
        return _PASSWORD
    if info.compress_type not in _METHODS:
        return f"compressed by method {info.compress_type}, which is not read; stored, deflate and bzip2 are"
    return TOO_LARGE if max(info.file_size, info.compress_size) > MAX_FILE_BYTES else None
