"""Lines of a text file, streamed, with their numbers and places; what is not plain UTF-8 is an error with its line."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import IO, NamedTuple, cast

from semscale.datasets.where import MAX_FILE_BYTES, is_local, is_missing, open_place, plain_reason
from semscale.errors import SemscaleError
from semscale.redact import shown

MAX_LINE_BYTES = 64 * 2**20
"""A longer line is an error: files without line ends would otherwise fill the memory."""

_BOM = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """A line of a file.

    Attributes:
        number: counted from 1.
        offset: where it begins, in bytes.
        size: its length in bytes, with its line end.
        text: the line with its line end, without a byte order mark.
    """

    number: int
    offset: int
    size: int
    text: str


def read_lines(path: str) -> Iterator[Line]:
    """Give the lines of a UTF-8 file with or without a byte order mark; only one line is in memory.

    Raises:
        SemscaleError: the file cannot be read, is UTF-16, has bytes that are not UTF-8, NUL bytes or an endless line.
    """
    where = shown(path)
    try:
        with _open(path) as file:
            offset = number = 0
            while content := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                yield Line(number, offset, len(content), _text(content, number, where))
                offset += len(content)
    except FileNotFoundError as error:
        raise SemscaleError("the table does not exist", where=where) from error
    except OSError as error:
        raise SemscaleError("the table cannot be read", where=where, found=plain_reason(error)) from error


def read_part(path: str, offset: int, size: int) -> str:
    """Return `size` bytes of a file from `offset` on, as text.

    Raises:
        OSError: the file cannot be read, or has changed since it was listed.
    """
    if size > MAX_FILE_BYTES:
        raise OSError(f"larger than {MAX_FILE_BYTES // 2**20} MiB")
    if is_local(path):
        with open(open_place(path)[1], "rb") as file:
            file.seek(offset)
            content = file.read(size)
    else:
        fs, inner = open_place(path)
        content = fs.cat_file(inner, start=offset, end=offset + size)
    try:
        if len(content) == size:
            return content.removeprefix(_BOM if offset == 0 else b"").decode()
    except UnicodeDecodeError:
        pass
    raise OSError("the table has changed since it was listed")


def _open(path: str) -> IO[bytes]:
    fs, inner = open_place(path)
    if is_local(path):
        return open(inner, "rb")
    try:
        # fsspec's own readline seeks, which a server without ranges does not allow
        return cast(IO[bytes], io.BufferedReader(fs.open(inner, "rb"), 2**20))
    except Exception as error:  # the packages behind fsspec raise nearly anything
        if is_missing(error):
            raise
        raise OSError(plain_reason(error)) from error


def _text(content: bytes, number: int, where: str) -> str:
    if number == 1:
        if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise SemscaleError("the table is not UTF-8", where=where, found="UTF-16", hint="save it as UTF-8")
        content = content.removeprefix(_BOM)
    if len(content) > MAX_LINE_BYTES:
        raise SemscaleError(
            "a line of the table is too long",
            where=f"{where}:{number}",
            found=f"more than {MAX_LINE_BYTES // 2**20} MiB without a line end",
        )
    if b"\0" in content:
        raise SemscaleError(
            "the table has a NUL byte", where=f"{where}:{number}", hint="if it is UTF-16, save it as UTF-8"
        )
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise SemscaleError(
            "the table is not UTF-8",
            where=f"{where}:{number}",
            found=f"not UTF-8, byte 0x{content[error.start]:02x} at line {number}",
            hint="save it as UTF-8",
        ) from error
