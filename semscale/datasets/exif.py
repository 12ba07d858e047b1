"""Reader that applies the EXIF orientation of images; without it pixels are taken as they are stored."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import ImageOps

from semscale.datasets.base import Reader
from semscale.datasets.picture import BadImageError, eight_bit, load, orientation


@dataclass(frozen=True)
class ExifOrientedReader:
    """Turns what another reader reads; turned pictures become PNG, so that their content is what a model is shown.

    Attributes:
        inner: the reader of the dataset.
    """

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
