"""Verifying an image by decoding it, with a decision for every kind of picture file.

- Only the formats in `FORMATS` are tried: others (EPS, for one, which Pillow hands to Ghostscript) are not images here.
- Animated GIF, WebP and PNG, and TIFF with several pages: the first picture.
- P, 1, L, LA, RGB, RGBA, CMYK and YCbCr stay as they are; open_clip resizes them in their mode and converts to RGB
  afterwards, without alpha, and so do the workers.
- 16-bit grey is scaled to 8 bits (Pillow would cut everything above 255 to white). 32-bit integers beyond 16 bits and
  floating point have no stated range and are refused.
- EXIF orientation is not applied, as in open_clip and clip-server, unless a dataset says ``orientation: exif``.
- AVIF is read where Pillow was built with it, HEIC where ``pillow-heif`` is installed; otherwise the reason says so.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from functools import lru_cache

import numpy as np
from PIL import Image, UnidentifiedImageError

FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "HEIF", "ICO", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP",
)  # fmt: skip
"""What is read, by Pillow's names."""

MAX_PIXELS = 178_956_970
"""Twice Pillow's warning level: where it speaks of a decompression bomb."""


class BadImageError(ValueError):
    """An image that cannot be decoded; its message is the reason that stands in the quarantine."""


def decode(content: bytes) -> Image.Image:
    """Decode an image file completely, so that a truncated one is found here and not in the model.

    Returns:
        The first picture of the file, in the mode of its file, 16-bit grey as 8-bit.

    Raises:
        BadImageError: the bytes are no image, are cut off, or would decode to more than `MAX_PIXELS` pixels.

    >>> decode(b"not a picture")
    Traceback (most recent call last):
    semscale.datasets.picture.BadImageError: not an image that Pillow can read
    """
    if not content:
        raise BadImageError("the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a corrupt EXIF block or an odd palette is no reason to speak
            image = Image.open(io.BytesIO(content), formats=_formats())
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            image.load()
    except UnidentifiedImageError:
        raise BadImageError(_unidentified(content)) from None
    except Image.DecompressionBombError:
        raise BadImageError(f"more than {MAX_PIXELS:,} pixels, a decompression bomb") from None
    except Exception as error:  # Pillow's plugins raise nearly anything on broken files
        raise BadImageError(f"cannot be decoded: {_plain(error)}") from error
    return _eight_bit(image)


def orientation(content: bytes) -> int:
    """Return the EXIF orientation of an image file, 1 to 8; 1, upright, where there is none.

    Raises:
        BadImageError: the bytes are no image.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = Image.open(io.BytesIO(content), formats=_formats()).getexif().get(0x0112, 1)
    except Exception as error:
        raise BadImageError(f"cannot be decoded: {_plain(error)}") from error
    return found if found in range(1, 9) else 1


@lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    with contextlib.suppress(ImportError):
        from pillow_heif import register_heif_opener  # type: ignore[import-not-found, unused-ignore]

        register_heif_opener()
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _unidentified(content: bytes) -> str:
    brand = content[8:12] if content[4:8] == b"ftyp" else b""
    if brand in (b"heic", b"heix", b"hevc", b"mif1", b"msf1") and "HEIF" not in _formats():
        return "HEIC, which needs the package pillow-heif"
    if brand in (b"avif", b"avis") and "AVIF" not in _formats():
        return "AVIF, which this Pillow was built without"
    return "not an image that Pillow can read"


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
        if low < 0 or high > 65_535:
            raise BadImageError(f"32-bit pixels from {low} to {high} have no stated range")
        return Image.fromarray((values >> 8 if image.mode != "I" or high > 255 else values).astype(np.uint8), "L")
    if image.mode == "F":
        raise BadImageError("floating-point pixels have no stated range")
    return image


def _plain(error: Exception) -> str:
    text = re.sub(r" ?<_io\.\w+ object at 0x[0-9a-f]+>", "", str(error))
    return " ".join(text.split()) or type(error).__name__
