"""Pictures turned as their EXIF tag says, by option; without it the pixels are taken as they lie."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import ImageOps

from semscale.datasets.base import Reader
from semscale.datasets.picture import BadImageError, decode, orientation


@dataclass(frozen=True)
class TurnedReader:
    """Turns what another reader reads; turned pictures become PNG, so that their content is what a model is shown.

    Attributes:
        inner: the reader of the dataset.
    """

    inner: Reader

    @property
    def parallel(self) -> int:
        """How many reads at once pay."""
        return getattr(self.inner, "parallel", 1)

    def read(self, place: str) -> bytes:
        """Return the image, upright; one that cannot be decoded comes as it is, so that decoding it says why."""
        content = self.inner.read(place)
        try:
            if orientation(content) == 1:
                return content
            upright = ImageOps.exif_transpose(decode(content))
        except BadImageError:
            return content
        upright.info.clear()
        buffer = io.BytesIO()
        upright.convert("RGBA" if "A" in upright.getbands() else "RGB").save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()
