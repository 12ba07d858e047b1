"""Conversion of table cells to class labels and image names."""

from __future__ import annotations

import math

from semscale.errors import SemscaleError

INLINE = "data:"
"""What the name of an image begins with that is in the cell itself."""


def label_text(value: object, where: str) -> str | None:
    """Return a class label as text; None for what stands for "no class".

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
        SemscaleError: it is not valid Unicode, or has a NUL.
    """
    if "\0" in text:
        raise SemscaleError("a text of the table has a NUL byte", where=where, found=ascii(text[:80]))
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        if 0xDC80 <= code <= 0xDCFF:  # how bytes that are not UTF-8 are decoded
            raise SemscaleError(
                "the table is not UTF-8", where=where, found=f"byte 0x{code - 0xDC00:02x}", hint="save it as UTF-8"
            ) from error
        raise SemscaleError("a text of the table is not Unicode", where=where, found=ascii(text[:80])) from error
    return text.strip()


def image_name(value: object, where: str) -> str:
    """Return the path or URL in an image cell, empty if there is none; `INLINE` if the cell is the image itself.

    Raises:
        SemscaleError: it is a list, an object without image, or another thing that names no image.

    >>> image_name({"path": "a/1.png"}, ""), image_name(7, ""), image_name({"bytes": "iVBORw=="}, "")
    ('a/1.png', '7', 'data:')
    """
    if isinstance(value, dict):
        if value.get("bytes"):
            return INLINE
        named = [value[name] for name in ("path", "url") if isinstance(value.get(name), str)]
        value = named[0] if named else None if "bytes" in value or "path" in value else value
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        return plain_text(value, where)
    raise SemscaleError(
        "the image of a row is no path and no URL",
        where=where,
        found=type(value).__name__,
        expected='a text, or an object such as {"path": "1.jpg"}',
        hint="set image: to the field that has it, in an object by its dotted path (picture.file)",
    )
