"""Numbered images of the synthetic datasets: their halves, seeds, classes, pixels and PNG bytes."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from semscale.synthetic import digits, shapes
from semscale.synthetic.scene import Truth

SPLITS = ("train", "test")

_SEEDS = {("digits", "train"): 101, ("digits", "test"): 102, ("shapes", "train"): 201, ("shapes", "test"): 202}
_STORED_BLOCK = 65_535


def class_of(name: str, split: str, index: int) -> str:
    """Return the class of an image: shapes take turns, digits follow their sources."""
    if name == "shapes":
        return shapes.CLASSES[index % len(shapes.CLASSES)]
    _, target = digits.sources()
    return digits.CLASSES[int(target[digits.split_indices(split)[index]])]


def render(name: str, split: str, index: int, variant: int = 0) -> tuple[NDArray[np.uint8], Truth]:
    """Draw image `index` of a half of a synthetic dataset: (64, 64, 3) colour values, and what is true of the image.

    Variant 0 is the dataset's image; other numbers redraw the same source (digits) or class (shapes) afresh.
    """
    seed = [_SEEDS[name, split], index] if variant == 0 else [_SEEDS[name, split], index, variant]
    rng = np.random.default_rng(seed)
    if name == "shapes":
        return shapes.render(class_of(name, split, index), rng)
    return digits.render(int(digits.split_indices(split)[index]), rng)


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return (height, width, 3) colour values as PNG (ISO/IEC 15948, RFC 1950, RFC 1951), uncompressed.

    The bytes are the same on every machine, as embeddings are stored under their SHA-256; compressors differ between
    versions of zlib.

    >>> encode_png(np.zeros((2, 3, 3), np.uint8))[:8]
    b'\\x89PNG\\r\\n\\x1a\\n'
    """
    height, width = pixels.shape[:2]
    # the first byte of a row names its filter: 0, none
    data = np.pad(pixels.reshape(height, 3 * width), ((0, 0), (1, 0))).tobytes()
    blocks = [data[start : start + _STORED_BLOCK] for start in range(0, len(data), _STORED_BLOCK)]
    heads = [struct.pack("<BHH", block is blocks[-1], len(block), len(block) ^ 0xFFFF) for block in blocks]
    stored = b"\x78\x01" + b"".join(map(bytes.__add__, heads, blocks)) + struct.pack(">I", zlib.adler32(data))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", header), (b"IDAT", stored), (b"IEND", b"")):
        png += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return png
