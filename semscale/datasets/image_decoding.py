"""Decoding of images, with a decision for every kind of picture file.

- Only the formats in `FORMATS` are tried, by content and not by name: others (EPS, for one, which Pillow hands to
  Ghostscript) are not images here.
- Animated GIF, WebP, AVIF and PNG, TIFF with several pages, JPEG with a second picture: the first picture.
- P, 1, L, LA, RGB, RGBA, CMYK, YCbCr and LAB stay as they are; open_clip resizes them in their mode and converts to
  RGB afterwards, without alpha, and so do the workers.
- 16-bit grey loses its lower 8 bits (Pillow would cut everything above 255 to white); 16-bit colour Pillow reads so
  itself. 32-bit integers, signed ones and floating point have no stated range and are refused: a range guessed for
  each picture would make two pictures of one dataset differ in brightness.
- EXIF orientation is not applied, as in open_clip and clip-server, unless a dataset says ``orientation: exif``. The
  tag of a TIFF is the exception: Pillow turns such a file whenever it is loaded, there as here.
- HEIC is read where ``pillow-heif`` is installed; otherwise the reason says so.
- A file counts as truncated when pixels are missing; one that lost only its end mark is whole. Damage inside the
  compressed data of a JPEG cannot always be told from a picture.
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

from semscale.datasets.base import Reader

FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "HEIF", "ICO", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP",
)  # fmt: skip
"""What is read, by Pillow's names."""

MAX_PIXELS = 178_956_970
"""Twice Pillow's warning level: where it speaks of a decompression bomb."""

_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}

# A corrupt EXIF block or an odd palette is no reason to speak. Said once and for all, since warnings.catch_warnings
# in two threads at a time can leave every warning of the process switched off.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning, module=r"PIL\.")


class BadImageError(ValueError):
    """An image that cannot be decoded; its message is the reason that stands in the quarantine."""


def decode(content: bytes, draft: int | None = None) -> Image.Image:
    """Decode an image file completely, so that a truncated one is found here and not in the model.

    Args:
        content: the file.
        draft: let libjpeg leave out detail as long as the shorter side of a JPEG keeps this many pixels: several times
            faster for photographs, and another picture by a little.

    Returns:
        The first picture of the file, in the mode of its file, 16-bit grey as 8-bit.

    Raises:
        BadImageError: the bytes are no image, are cut off, would decode to more than `MAX_PIXELS` pixels, or have
            pixels without a stated range.

    >>> decode(b"not a picture")
    Traceback (most recent call last):
    semscale.datasets.image_decoding.BadImageError: not an image that Pillow can read
    """
    return eight_bit(load(content, draft=draft))


def load(content: bytes, *, pixels: bool = True, draft: int | None = None) -> Image.Image:
    """Load the first picture of an image file as it is stored; without `pixels` only its head. Raises BadImageError."""
    if not content:
        raise BadImageError("the file is empty")
    try:
        image = Image.open(io.BytesIO(content), formats=_formats())
        # beside Pillow's own check, which another library may have switched off
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
        # numbers and addresses that differ from file to file tell a user nothing
        text = re.sub(r" ?(<_io\.\w+ object at 0x[0-9a-f]+>|\(\d+ bytes not processed\))", "", str(error))
        raise BadImageError(f"cannot be decoded: {' '.join(text.split()) or type(error).__name__}") from error
    if not image.width or not image.height:
        raise BadImageError("the picture has no pixels")
    return image


def eight_bit(image: Image.Image) -> Image.Image:
    """Return a loaded picture with 8 bits per channel, which is what models are shown. Raises BadImageError.

    >>> eight_bit(Image.fromarray(np.array([[0x1234]], dtype=np.uint16))).getpixel((0, 0)) == 0x12
    True
    """
    if image.mode == "F":
        raise BadImageError("floating-point pixels have no stated range")
    # older Pillows, and 16-bit PGM in all of them, have these 16 bits in 32
    wide = image.mode == "I" and image.format in ("PNG", "PPM", "JPEG2000")
    if image.mode == "I" and not wide:
        raise BadImageError("32-bit or signed pixels have no stated range")
    if not wide and not image.mode.startswith("I;16"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of a picture, 1 to 8; 1, upright, where there is none that can be read.

    Of a loaded picture it is what is still to be done: Pillow has turned TIFF by then.
    """
    try:
        found = image.getexif().get(0x0112, 1)
    except Exception:  # a corrupt EXIF block is no fault of the picture
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


class ExifOrientedReader(NamedTuple):
    """Turns what another reader reads; turned pictures become PNG, so that their content is what a model is shown."""

    inner: Reader

    @property
    def parallel(self) -> int:
        """Number of concurrent reads that pay."""
        return getattr(self.inner, "parallel", 1)

    def read(self, place: str) -> bytes:
        """Return the image, upright; one that cannot be decoded comes as it is, so that decoding it says why."""
        content = self.inner.read(place)
        try:
            # a loaded TIFF is upright already, since Pillow turns it
            if orientation(load(content, pixels=False)) == 1 or orientation(image := load(content)) == 1:
                return content
            upright = ImageOps.exif_transpose(image)
            upright.format = image.format
            upright = eight_bit(upright)
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
