"""What one picture is: its size, mode and format, and what of its file a model is not shown."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import NamedTuple

from PIL import Image

from semscale.datasets.base import Reader
from semscale.datasets.picture import BadImageError, eight_bit, load, orientation


class Facts(NamedTuple):
    """What a usable picture is.

    Attributes:
        size: width and height in pixels.
        mode: Pillow's mode, as the file stores it.
        format: Pillow's name of the format.
        several: the file has more pictures than this one.
        turned: its EXIF tag asks for turning.
        transparent: some of its pixels are not opaque.
    """

    size: tuple[int, int]
    mode: str
    format: str
    several: bool
    turned: bool
    transparent: bool


class Found(NamedTuple):
    """What reading one image gave.

    Attributes:
        key: SHA-256 of its file; None where it could not be read.
        facts: None where it cannot be used.
        reason: why it cannot be used; None where it can.
    """

    key: bytes | None
    facts: Facts | None
    reason: str | None


def look(reader: Reader, place: str) -> Found:
    """Read and decode one image as a study would."""
    try:
        content = reader.read(place)
    except OSError as error:
        return Found(None, None, f"cannot be read: {error.strerror or error}")
    key = hashlib.sha256(content).digest()
    try:
        image = load(content)
        eight_bit(image)
    except BadImageError as error:
        return Found(key, None, str(error))
    return Found(key, _facts(image), None)


def _facts(image: Image.Image) -> Facts:
    several = False
    with suppress(Exception):  # looking for a second picture can fail where the first is fine
        several = bool(getattr(image, "is_animated", False))
    return Facts(image.size, image.mode, image.format or "?", several, orientation(image) != 1, _transparent(image))


def _transparent(image: Image.Image) -> bool:
    if "A" in image.getbands():
        low, _ = image.getchannel("A").getextrema()
        return bool(low < 255)  # type: ignore[operator]
    return "transparency" in image.info
