"""Pictures turned as their EXIF tag says, by option; without it the pixels are taken as they lie."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

from semscale.datasets.base import Reader
from semscale.datasets.picture import BadImageError, eight_bit, load, orientation

# TIFF 6.0, tag Orientation: what sets a picture upright that is stored so
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


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
            if orientation(load(content, pixels=False)) == 1:
                return content
            image = load(content)
            turn = _TURNS.get(orientation(image))
            if turn is None:
                return content
            upright = eight_bit(image).transpose(turn)
        except BadImageError:
            return content
        upright = upright.convert("RGBA" if "A" in upright.getbands() else "RGB")
        upright.info.clear()
        buffer = io.BytesIO()
        upright.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()
