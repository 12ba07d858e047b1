"""Walking through a zip's directory: a line at a time, and never silently short.

Python's zipfile keeps an object per member (650 MB for a million), takes a directory that is shorter than it should be,
and knows nothing of members that share data. Format: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.12 to 4.3.16 and 4.5.3.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from semscale.datasets.archives.members import member_name
from semscale.errors import SemscaleError

LOCAL_HEADER = 30
"""Bytes of a local header without the member's name."""

_END = struct.Struct("<4sHHHHIIH")
_END_64 = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR = struct.Struct("<4sIQI")
_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
_UTF8 = 0x800


class Member(NamedTuple):
    """A line of a zip's directory.

    Attributes:
        name: the member's path, checked; a folder's ends with a slash.
        offset: where its local header begins in the file.
        packed: size of its data as they lie, in bytes.
        size: size of its content, in bytes.
        method: how it is compressed.
        flags: general purpose flags.
        mode: Unix mode, 0 where there is none.
        crc: CRC-32 of its content.
    """

    name: str
    offset: int
    packed: int
    size: int
    method: int
    flags: int
    mode: int
    crc: int


class _Directory(NamedTuple):
    start: int
    size: int
    n_members: int
    shift: int  # bytes that were put in front of the archive, such as a self-extracting program


def walk(file: BinaryIO, archive: str) -> Iterator[Member]:
    """Give the members of a zip in the order of its directory.

    Args:
        file: the archive, which can seek.
        archive: its path, for messages.

    Raises:
        SemscaleError: no zip, cut off, damaged, a name that leads outside, or members that share data.
    """
    directory = _find(file, archive)
    offsets, sizes = array("Q"), array("Q")
    for member in _members(file, directory, archive):
        if member.offset + LOCAL_HEADER + member.packed > directory.start:
            raise SemscaleError(
                "the archive is damaged: a member lies outside of it",
                where=archive,
                found=f"{member.name} at {member.offset:,}, {member.packed:,} bytes",
                hint="copy or download it again",
            )
        offsets.append(member.offset)
        sizes.append(member.packed)
        yield member
    order, shared = np.argsort(np.frombuffer(offsets, np.uint64), kind="stable"), np.empty(0, np.int64)
    if len(order):
        starts = np.frombuffer(offsets, np.uint64)[order]
        ends = starts + np.frombuffer(sizes, np.uint64)[order] + np.uint64(LOCAL_HEADER)
        shared = np.flatnonzero(ends[:-1] > starts[1:])
    if len(shared):
        culprit = int(order[shared[0] + 1])
        name = next(one.name for i, one in enumerate(_members(file, directory, archive)) if i == culprit)
        raise SemscaleError(
            "members of the archive share their data, as in a decompression bomb",
            where=archive,
            found=f"{name}, among {len(shared) + 1} such members",
            hint="make the archive anew from its images",
        )


def _find(file: BinaryIO, archive: str) -> _Directory:
    length = file.seek(0, os.SEEK_END)
    start = max(0, length - 2**16 - _END.size)
    file.seek(start)
    tail = file.read(length - start)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        head = _read(file, 0, 4)
        raise SemscaleError(
            "the archive is cut off: its directory is missing"
            if head == b"PK\x03\x04"
            else "this is not a zip archive",
            where=archive,
            found=f"{length:,} bytes",
            hint="copy or download it again" if head == b"PK\x03\x04" else "tar:PATH reads tars, folder:PATH folders",
        )
    _, disk, _, _, count, size, offset, _ = _END.unpack_from(tail, at)
    end = start + at
    if 0xFFFFFFFF in (size, offset) or 0xFFFF in (count, disk):
        locator = _read(file, end - _LOCATOR.size, _LOCATOR.size)
        if locator[:4] == b"PK\x06\x07":
            end -= _LOCATOR.size + _END_64.size
            record = _read(file, end, _END_64.size)
            if record[:4] != b"PK\x06\x06":
                raise _damaged(archive, "the end of its directory")
            _, _, _, _, disk, _, _, count, size, offset = _END_64.unpack(record)
    if disk:
        raise SemscaleError("the archive is one of several parts", where=archive, hint="put the parts together first")
    shift = end - size - offset
    if shift < 0:
        raise _damaged(archive, "the place of its directory")
    return _Directory(offset + shift, size, count, shift)


def _members(file: BinaryIO, directory: _Directory, archive: str) -> Iterator[Member]:
    file.seek(directory.start)
    left, count, last = directory.size, 0, "its beginning"
    while left >= _CENTRAL.size:
        head = file.read(_CENTRAL.size)
        if head[:4] == b"PK\x05\x05":
            break  # a digital signature ends some directories
        if head[:4] != b"PK\x01\x02" or len(head) < _CENTRAL.size:
            raise _damaged(archive, f"its directory after {last}")
        fields = _CENTRAL.unpack(head)
        length = fields[10] + fields[11] + fields[12]
        tail = file.read(length)
        left -= _CENTRAL.size + length
        if len(tail) < length or left < 0:
            raise _damaged(archive, f"its directory after {last}")
        member = _member(fields, tail, directory.shift, archive)
        last = member.name
        count += 1
        yield member
    # writers without Zip64 count modulo 65,536
    if count != directory.n_members and count % 2**16 != directory.n_members:
        raise _damaged(archive, f"its directory, which has {count} of {directory.n_members} members")


def _member(fields: tuple[int, ...], tail: bytes, shift: int, archive: str) -> Member:
    _, _, _, flags, method, _, _, crc, packed, size, name_length, extra_length, _, _, _, attributes, offset = fields
    raw, extra = tail[:name_length], tail[name_length : name_length + extra_length]
    if 0xFFFFFFFF in (size, packed, offset):
        size, packed, offset = _wide(extra, size, packed, offset)
    name = _decoded(raw, flags)
    checked = member_name(name, archive)
    return Member(
        checked + "/" * name.endswith(("/", "\\")), offset + shift, packed, size, method, flags, attributes >> 16, crc
    )


def _wide(extra: bytes, *values: int) -> list[int]:
    """Return the 64-bit values of the Zip64 extra field in place of those that are all ones."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            field = extra[at + 4 : at + 4 + length]
            wide = iter(struct.unpack(f"<{len(field) // 8}Q", field[: len(field) // 8 * 8]))
            return [next(wide, value) if value == 0xFFFFFFFF else value for value in values]
        at += 4 + length
    return list(values)


def _decoded(raw: bytes, flags: int) -> str:
    # macOS and many a tool write UTF-8 without the flag; text of another code page is all but never valid UTF-8
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("utf-8", "surrogateescape") if flags & _UTF8 else raw.decode("cp437")


def _read(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(max(0, start))
    return file.read(size)


def _damaged(archive: str, what: str) -> SemscaleError:
    return SemscaleError("the archive is damaged", where=archive, found=what, hint="copy or download it again")
