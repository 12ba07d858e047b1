"""Thumbnails: small JPEGs of any image mode, none for unreadable images."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from semscale.study.report_data import thumbnail


class Shelf:
    """Pictures by their location."""

    def __init__(self, **pictures: bytes) -> None:
        self.pictures = pictures

    def read(self, location: str) -> bytes:
        try:
            return self.pictures[location]
        except KeyError:
            raise FileNotFoundError(location) from None


def png(width: int, height: int, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def test_every_kind_of_picture_becomes_a_small_jpeg() -> None:
    shelf = Shelf(wide=png(900, 300), grey=png(20, 40, "L"), palette=png(200, 200, "P"), alpha=png(99, 99, "RGBA"))
    sizes = {}
    for location in shelf.pictures:
        found = thumbnail(shelf, location)
        assert found is not None
        sizes[location] = Image.open(io.BytesIO(found)).size
        assert Image.open(io.BytesIO(found)).format == "JPEG"
    assert sizes == {"wide": (72, 24), "grey": (20, 40), "palette": (72, 72), "alpha": (72, 72)}


def test_an_unreadable_image_has_none() -> None:
    shelf = Shelf(broken=b"not a picture")
    assert thumbnail(shelf, "broken") is None
    assert thumbnail(shelf, "gone") is None
