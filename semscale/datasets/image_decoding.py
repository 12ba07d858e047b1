"""Image decoding with a fixed policy per format and pixel mode.

- The format is detected by content, among `FORMATS` only; others are not images (Pillow would run Ghostscript for EPS).
- Multi-frame files (animated GIF, WebP, AVIF, PNG, multi-page TIFF, JPEG with a second image): the first frame.
- The modes P, 1, L, LA, RGB, RGBA, CMYK, YCbCr and LAB are kept; like open_clip, the workers resize in that mode and
  then convert to RGB, dropping alpha.
- 16-bit greyscale keeps its upper 8 bits (Pillow would clip at 255); Pillow itself reads 16-bit colour so. 32-bit or
  signed integers and floating point have no defined range and are rejected: a range guessed per image would change
  brightness within a dataset.
- EXIF orientation is not applied, as in open_clip and clip-server, except with ``orientation: exif``. For TIFF Pillow
  always applies it on loading.
- HEIC needs ``pillow-heif``; without it the rejection names the package.
- A file is truncated if pixels are missing; a missing end marker is accepted. Damage inside the compressed data of a
  JPEG cannot always be detected.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from semscale.datasets.dataset import Reader

FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "HEIF", "ICO", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP",
)  # fmt: skip
"""Accepted formats, by Pillow's names."""

MAX_PIXELS = 178_956_970
"""Twice Pillow's warning level; its limit for decompression bombs."""

_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}

# A corrupt EXIF block or an unusual palette needs no warning. Filtered globally, because warnings.catch_warnings in two
# threads can leave all warnings of the process disabled.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning, module=r"PIL\.")


class BadImageError(ValueError):
    """Raised for an image that cannot be decoded; the message is the reason in the quarantine."""


def decode(content: bytes, draft: int | None = None) -> Image.Image:
    """Decode an image file completely, so that truncation is detected before the model.

    Args:
        content: bytes of the file.
        draft: let libjpeg decode a JPEG at reduced scale, with at least this many pixels on the shorter side: several
            times faster for photographs, with slightly different pixels.

    Returns:
        The first frame in the mode of the file; 16-bit greyscale as 8-bit.

    Raises:
        BadImageError: the bytes are no image, are truncated, would decode to more than `MAX_PIXELS` pixels, or have
            pixels without a defined range.

    >>> decode(b"not a picture")
    Traceback (most recent call last):
    semscale.datasets.image_decoding.BadImageError: not an image that Pillow can read
    """
    return to_eight_bit(load(content, draft=draft))


def load(content: bytes, *, pixels: bool = True, draft: int | None = None) -> Image.Image:
    """Load the first frame of an image file as stored; without `pixels` only its header. Raises BadImageError."""
    if not content:
        raise BadImageError("the file is empty")
    try:
        image = Image.open(io.BytesIO(content), formats=_formats())
        # in addition to Pillow's check, which another library may have disabled
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        if draft:
            image.draft(None, (draft, draft))
        if pixels:
            image.load()
    except UnidentifiedImageError:
        raise BadImageError(_unidentified(content)) from None
    except Image.DecompressionBombError:
        raise BadImageError(f"more than {MAX_PIXELS:,} pixels, a decompression bomb") from None
    except Exception as error:  # Pillow's plugins raise nearly anything on broken files
        # without addresses and byte counts, equal reasons are equal texts
        text = re.sub(r" ?(<_io\.\w+ object at 0x[0-9a-f]+>|\(\d+ bytes not processed\))", "", str(error))
        raise BadImageError(f"cannot be decoded: {' '.join(text.split()) or type(error).__name__}") from error
    if not image.width or not image.height:
        raise BadImageError("the picture has no pixels")
    return image


def to_eight_bit(image: Image.Image) -> Image.Image:
    """Return a loaded image with 8 bits per channel, as models see it. Raises BadImageError.

    >>> to_eight_bit(Image.fromarray(np.array([[0x1234]], dtype=np.uint16))).getpixel((0, 0)) == 0x12
    True
    """
    if image.mode == "F":
        raise BadImageError("floating-point pixels have no stated range")
    # older versions of Pillow, and all versions for PGM, store these 16 bits in 32
    wide = image.mode == "I" and image.format in ("PNG", "PPM", "JPEG2000")
    if image.mode == "I" and not wide:
        raise BadImageError("32-bit or signed pixels have no stated range")
    if not wide and not image.mode.startswith("I;16"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def exif_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an image, 1 to 8; 1, upright, without a readable tag.

    Of a loaded image it is the orientation still to be applied: Pillow applies that of TIFF on loading.
    """
    try:
        tag = image.getexif().get(0x0112, 1)
    except Exception:  # the pixels are intact in spite of a corrupt EXIF block
        return 1
    return tag if isinstance(tag, int) and 1 <= tag <= 8 else 1


class ExifOrientedReader(NamedTuple):
    """Reader that applies the EXIF orientation; rotated images become PNG, so that content and pixels agree."""

    inner: Reader

    @property
    def parallel(self) -> int:
        """Number of concurrent reads that pay off."""
        return getattr(self.inner, "parallel", 1)

    def read(self, location: str) -> bytes:
        """Return the upright image; one that cannot be decoded is returned unchanged and rejected by the decoder."""
        content = self.inner.read(location)
        try:
            # a loaded TIFF is upright already
            if exif_orientation(load(content, pixels=False)) == 1 or exif_orientation(image := load(content)) == 1:
                return content
            upright = ImageOps.exif_transpose(image)
            upright.format = image.format
            upright = to_eight_bit(upright)
        except BadImageError:
            return content
        upright = upright.convert("RGBA" if "A" in upright.getbands() else "RGB")
        upright.info.clear()
        buffer = io.BytesIO()
        upright.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()


@lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    with contextlib.suppress(ImportError):
        from pillow_heif import register_heif_opener  # type: ignore[import-not-found, unused-ignore]

        register_heif_opener()
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _unidentified(content: bytes) -> str:
    is_heif = content[4:8] == b"ftyp" and content[8:12] in _HEIF_BRANDS and b"avif" not in content[:64]
    if is_heif and "HEIF" not in _formats():
        return "HEIC, which needs the package pillow-heif"
    return "not an image that Pillow can read"
