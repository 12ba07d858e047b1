"""Zip archives: a listing by `zipfile`, and stateless reads of single members by byte offset."""

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
from semscale.common.redact import mask_url
from semscale.datasets.archives.members import LINK, SPECIAL, damaged, is_listed, member_name, open_archive, read_range
from semscale.datasets.dataset import ListedImage, ListingWarnings

_LOCAL_HEADER = 30  # bytes, without the name
_SLACK = 512  # bytes of a local header's name and extra fields, nearly always enough
_ENCRYPTED, _UTF8 = 0x1 | 0x40, 0x800
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
_PASSWORD = "encrypted with a password"
_MAX_TAIL = 2**16 + 22  # bytes of the end of central directory record with the longest comment


class ZipReader(NamedTuple):
    """Reader of images in a zip at a path or URL, without its directory, by `parallel` concurrent reads."""

    path: str
    parallel: int = 1

    def read(self, location: str) -> bytes:
        """Return the bytes of an image at "header offset:compressed size:size:method:CRC-32". Raises OSError."""
        info = zipfile.ZipInfo()
        offset, info.compress_size, info.file_size, info.compress_type, info.CRC = map(int, location.split(":"))
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


def list_members(path: str, warnings: ListingWarnings) -> Iterator[ListedImage]:
    """Yield the images of a zip in the order of its directory. Raises DatasetError if that is damaged."""
    with open_archive(path) as file:
        for info in _directory(file, mask_url(path)):
            decoded, is_certain = _decode_name(info)
            name = member_name(decoded)
            if not info.filename.endswith("/") and is_listed(name, warnings):
                if not is_certain:
                    warnings.add("names are in an unknown code page, and are read as cp437", name)
                reason = _rejection_reason(info)
                location = f"{info.header_offset}:{info.compress_size}:{info.file_size}:{info.compress_type}:{info.CRC}"
                yield ListedImage(name, "" if reason else location, reason=reason)


def _directory(file: BinaryIO, archive: str) -> list[zipfile.ZipInfo]:
    """Return the members of a zip after checks of their number, of their offsets, and for overlaps."""
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
    start = max(0, file.seek(0, io.SEEK_END) - _MAX_TAIL)
    file.seek(start)
    tail = file.read(_MAX_TAIL)
    (counted,) = struct.unpack_from("<H", tail, tail.rfind(b"PK\x05\x06") + 10)
    if counted not in (0xFFFF, len(members) % 2**16):  # Zip64, or a writer without it, counting modulo 65,536
        raise damaged(archive, f"its directory, which has {len(members)} of {counted} members")
    starts = sorted((info.header_offset, info.compress_size, info.filename) for info in members)
    spans = [(start, start + _LOCAL_HEADER + size, name) for start, size, name in starts]
    bounds = [(0, 0, ""), *spans, (opened.start_dir, 0, "its directory")]
    for (_, end, _), (start, _, name) in itertools.pairwise(bounds):
        if end > start:
            raise damaged(archive, f"{name} shares its data with another member, as in a decompression bomb")
    return members


def _decode_name(info: zipfile.ZipInfo) -> tuple[str, bool]:
    """Return a member's name, and whether its encoding is certain."""
    # macOS and other tools write UTF-8 without the flag; text in another code page is hardly ever valid UTF-8
    with suppress(UnicodeError):
        return info.filename if info.flag_bits & _UTF8 else info.filename.encode("cp437").decode("utf-8"), True
    return info.filename, False


def _rejection_reason(info: zipfile.ZipInfo) -> str | None:
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
