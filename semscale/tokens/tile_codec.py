"""Tile codec: some tiles of a picture as bytes, every one of them counted, and back.

A message is a header of 8 bytes (version and flags, coder, rows and columns of tiles, height and width of a tile),
unless all tiles are there a bit per tile, what the receiver fills the others with, and the tiles: 2 bytes of length and
the payload each. Lossless tiles are deflated where that is shorter than the raw bytes; JPEG tiles are not lossless.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]
Marks = NDArray[np.bool_]

_HEADER = struct.Struct(">BBHHBB")
_ALL = 0x80
_VERSION = 1
CODERS = ("deflate", "jpeg")
FILLS = ("drop", "mean", "blur")


@dataclass(frozen=True)
class TileCoder:
    """Settings of the tile coder.

    Attributes:
        cell: height and width of a tile, at most 21,845 pixels in all.
        coder: `deflate` (lossless) or `jpeg`.
        quality: of JPEG.
        fill: what is sent for the missing tiles: nothing (`drop`), the mean colour of the picture (`mean`), or the
            picture with a pixel per tile (`blur`).
    """

    cell: tuple[int, int]
    coder: str = "deflate"
    quality: int = 75
    fill: str = "mean"

    def encode(self, picture: Picture, keep: Marks) -> bytes:
        """Return the message for the marked tiles.

        Args:
            picture: uint8 [H, W, 3], H and W multiples of the cell's.
            keep: bool [N], in raster order.
        """
        tiles, rows, columns = self._tiles(picture)
        whole = bool(keep.all())
        kinds = (_VERSION | FILLS.index(self.fill) << 2 | (_ALL if whole else 0), CODERS.index(self.coder))
        parts = [_HEADER.pack(*kinds, rows, columns, *self.cell)]
        if not whole:
            parts += [np.packbits(keep).tobytes(), self._fill_bytes(tiles)]
        for tile in tiles[keep]:
            payload = self._payload(tile)
            parts += [struct.pack(">H", len(payload)), payload]
        return b"".join(parts)

    def sizes(self, picture: Picture) -> tuple[int, NDArray[np.int64]]:
        """Return the bytes of a message without tiles, and what each tile adds, int64 [N]."""
        tiles, _, _ = self._tiles(picture)
        fixed = _HEADER.size + -(-len(tiles) // 8) + len(self._fill_bytes(tiles))
        return fixed, np.array([2 + len(self._payload(tile)) for tile in tiles], dtype=np.int64)

    def decode(self, message: bytes) -> Picture:
        """Return the picture of a message, with the missing tiles filled; black where nothing was sent for them."""
        flags, coder, rows, columns, height, width = _HEADER.unpack_from(message)
        count, offset = rows * columns, _HEADER.size
        keep = np.ones(count, dtype=np.bool_)
        tiles = np.zeros((count, height, width, 3), dtype=np.uint8)
        if not flags & _ALL:
            bitmap = np.frombuffer(message, np.uint8, -(-count // 8), offset)
            keep = np.unpackbits(bitmap, count=count).astype(np.bool_)
            offset += len(bitmap)
            fill = FILLS[flags >> 2 & 3]
            if fill == "mean":
                tiles[:] = np.frombuffer(message, np.uint8, 3, offset)
                offset += 3
            elif fill == "blur":
                (length,) = struct.unpack_from(">H", message, offset)
                small = np.frombuffer(zlib.decompress(message[offset + 2 : offset + 2 + length]), np.uint8)
                offset += 2 + length
                large = Image.fromarray(small.reshape(rows, columns, 3)).resize(
                    (columns * width, rows * height), Image.Resampling.BILINEAR
                )
                tiles, _, _ = self._tiles(np.asarray(large))
        for number in np.nonzero(keep)[0]:
            (length,) = struct.unpack_from(">H", message, offset)
            payload = message[offset + 2 : offset + 2 + length]
            tiles[number] = self._tile(payload, CODERS[coder], (height, width))
            offset += 2 + length
        shaped = tiles.reshape(rows, columns, height, width, 3).transpose(0, 2, 1, 3, 4)
        return np.ascontiguousarray(shaped.reshape(rows * height, columns * width, 3))

    def _tiles(self, picture: Picture) -> tuple[Picture, int, int]:
        height, width = self.cell
        rows, columns = picture.shape[0] // height, picture.shape[1] // width
        tiles = picture.reshape(rows, height, columns, width, 3).transpose(0, 2, 1, 3, 4)
        return np.ascontiguousarray(tiles.reshape(rows * columns, height, width, 3)), rows, columns

    def _fill_bytes(self, tiles: Picture) -> bytes:
        if self.fill == "drop":
            return b""
        if self.fill == "mean":
            return bytes(np.rint(tiles.reshape(-1, 3).mean(0)).astype(np.uint8))
        small = zlib.compress(np.rint(tiles.mean((1, 2))).astype(np.uint8).tobytes(), 9)
        return struct.pack(">H", len(small)) + small

    def _payload(self, tile: Picture) -> bytes:
        if self.coder == "jpeg":
            return jpeg_bytes(tile, self.quality)
        raw = tile.tobytes()
        # equal lengths mean raw bytes, so a deflated tile must be shorter
        return min(zlib.compress(raw, 9), raw, key=len) if len(zlib.compress(raw, 9)) < len(raw) else raw

    @staticmethod
    def _tile(payload: bytes, coder: str, cell: tuple[int, int]) -> Picture:
        if coder == "jpeg":
            return jpeg_picture(payload)
        raw = payload if len(payload) == cell[0] * cell[1] * 3 else zlib.decompress(payload)
        return np.frombuffer(raw, np.uint8).reshape(*cell, 3)


def jpeg_bytes(picture: Picture, quality: int) -> bytes:
    """Return a picture as a JPEG file, with colours at full resolution."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=quality, subsampling=0, optimize=True)
    return stream.getvalue()


def jpeg_picture(blob: bytes) -> Picture:
    """Return the picture of a JPEG file, uint8 [H, W, 3]."""
    with Image.open(io.BytesIO(blob)) as image:
        return np.array(image.convert("RGB"))


def jpeg_within(picture: Picture, budget: int) -> tuple[Picture, int]:
    """Return a whole picture through the best JPEG of at most `budget` bytes, and its bytes.

    Qualities 1 to 95 at full size; where even the worst is too large, the picture is halved until it fits, down to a
    pixel, whose bytes are counted even where they are more than the budget.
    """
    height, width, _ = picture.shape
    small = picture
    while True:
        worst = jpeg_bytes(small, 1)
        if len(worst) <= budget or max(small.shape[:2]) == 1:
            break
        size = max(small.shape[1] // 2, 1), max(small.shape[0] // 2, 1)
        small = np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BOX))
    best, low, high = worst, 1, 95
    while low < high:
        middle = (low + high + 1) // 2
        blob = jpeg_bytes(small, middle)
        if len(blob) <= budget:
            best, low = blob, middle
        else:
            high = middle - 1
    return _resized(jpeg_picture(best), height, width), len(best)


def downsampled_within(picture: Picture, budget: int) -> tuple[Picture, int]:
    """Return a whole picture through the largest down-sampled one of at most `budget` bytes, deflated, and its bytes.

    Four bytes of size are counted; a single pixel is sent even where it is more than the budget.
    """
    height, width, _ = picture.shape
    low, high = 1, min(height, width)
    best = _down(picture, 1)
    while low <= high:
        side = (low + high) // 2
        tried = _down(picture, side)
        if tried[1] <= budget:
            best, low = tried, side + 1
        else:
            high = side - 1
    return _resized(best[0], height, width), best[1]


def _down(picture: Picture, side: int) -> tuple[Picture, int]:
    height, width, _ = picture.shape
    shorter = min(height, width)
    size = max(width * side // shorter, 1), max(height * side // shorter, 1)
    small = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))
    return small, 4 + min(len(zlib.compress(small.tobytes(), 9)), small.size)


def _resized(picture: Picture, height: int, width: int) -> Picture:
    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
