"""What the rows of a table are, whatever its format, and how their values become texts."""

from __future__ import annotations

import base64
import binascii
import math
import os
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol
from urllib.parse import unquote_to_bytes

from semscale.datasets.source import IMAGE_SUFFIXES
from semscale.datasets.where import MAX_FILE_BYTES
from semscale.errors import SemscaleError


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        line: the line on which it begins, counted from 1.
        offset: where it begins in the file, in bytes.
        size: its length in bytes.
        values: the values of the columns that were asked for.
    """

    line: int
    offset: int
    size: int
    values: tuple[object, ...]


class Rows(Protocol):
    """A table whose rows can be gone through, and found again by their place."""

    @property
    def path(self) -> str:
        """Where the table lies."""
        ...

    def columns(self) -> Sequence[str]:
        """Return the names of the columns. Raises SemscaleError when the table has no head."""
        ...

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        """Give the rows with the values of these columns, streamed. Raises SemscaleError with the line."""
        ...

    def again(self, offset: int, size: int, column: str) -> object:
        """Return the value of a column in the row at this place. Raises OSError."""
        ...


def label_text(value: object, where: str) -> str | None:
    """Return a class as text; None for what stands for "no class".

    Raises:
        SemscaleError: it is a list, an object or another thing that is no label.

    >>> [label_text(value, "") for value in ("Tulip ", 3, 3.0, True, "", None, float("nan"))]
    ['Tulip', '3', '3', 'true', None, None, None]
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, str | int | float):
        return plain_text(str(value), where) or None
    raise SemscaleError(
        "the class of a row is no text and no number",
        where=where,
        found=type(value).__name__,
        hint="set label: to the field that has it, in an object by its dotted path (annotation.class)",
    )


def plain_text(text: str, where: str) -> str:
    """Return a text without surrounding white space.

    Raises:
        SemscaleError: it cannot be written as UTF-8, or has a NUL.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise SemscaleError("a text of the table is not Unicode", where=where, found=ascii(text[:80])) from error
    if "\0" in text:
        raise SemscaleError("a text of the table has a NUL", where=where, found=ascii(text[:80]))
    return text.strip()


class ImageValue(NamedTuple):
    """What a row says about its image.

    Attributes:
        text: its path or URL; for an image in the row the ending of its name.
        inline: the image itself stands in the row.
    """

    text: str
    inline: bool


def image_value(value: object, where: str) -> ImageValue:
    """Return what a row says about its image; an empty text if it names none.

    Raises:
        SemscaleError: it is a list, an object without image, or another thing that names no image.

    >>> image_value("a/1.jpg", ""), image_value({"bytes": "iVBORw==", "path": "a/1.png"}, "")
    (ImageValue(text='a/1.jpg', inline=False), ImageValue(text='.png', inline=True))
    >>> image_value("data:image/png;base64,iVBORw==", ""), image_value(None, "")
    (ImageValue(text='.png', inline=True), ImageValue(text='', inline=False))
    """
    if isinstance(value, dict):
        path = next((value[name] for name in ("path", "url") if isinstance(value.get(name), str)), None)
        if isinstance(value.get("bytes"), str) and value["bytes"]:
            ending = os.path.splitext(path or "")[1].lower()
            return ImageValue(ending if ending in IMAGE_SUFFIXES else "", True)
        if path is not None or "bytes" in value or "path" in value:
            return ImageValue(plain_text(path or "", where), False)
    if value is None:
        return ImageValue("", False)
    if isinstance(value, str):
        if value.startswith("data:"):
            kind = re.match(r"data:image/([a-z0-9]+)", value)
            ending = f".{kind[1]}" if kind else ""
            return ImageValue(ending if ending in IMAGE_SUFFIXES else "", True)
        return ImageValue(plain_text(value, where), False)
    if isinstance(value, int) and not isinstance(value, bool):
        return ImageValue(str(value), False)
    raise SemscaleError(
        "the image of a row is no path, no URL and no image",
        where=where,
        found=type(value).__name__,
        expected='a text, or an object such as {"path": "1.jpg"} or {"bytes": "<base64>"}',
        hint="set image: to the field that has it, in an object by its dotted path (picture.file)",
    )


def inline_bytes(value: object) -> bytes:
    """Return the bytes of an image that stands in a row: a ``data:`` URL, or base64 under ``bytes``.

    Raises:
        OSError: it is neither, or broken.

    >>> inline_bytes("data:image/png;base64,iVBORw=="), inline_bytes({"bytes": "iVBORw=="})
    (b'\\x89PNG', b'\\x89PNG')
    """
    coded, text = True, value
    if isinstance(value, dict):
        text = value.get("bytes")
    elif isinstance(value, str):
        head, _, text = value.partition(",")
        coded = head.endswith(";base64")
    if not isinstance(text, str):
        raise OSError("the row has no image in it")
    try:
        content = base64.b64decode("".join(text.split()), validate=True) if coded else unquote_to_bytes(text)
    except (binascii.Error, ValueError) as error:
        raise OSError(f"the image in the row is not base64: {error}") from error
    if len(content) > MAX_FILE_BYTES:
        raise OSError(f"larger than {MAX_FILE_BYTES // 2**20} MiB")
    return content
