"""Images of the synthetic datasets by number: splits, seeds, classes, pixels and PNG bytes."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from semscale.synthetic import digits, shapes
from semscale.synthetic.scene import GroundTruth

SPLITS = ("train", "test")

_SEEDS = {("digits", "train"): 101, ("digits", "test"): 102, ("shapes", "train"): 201, ("shapes", "test"): 202}
_STORED_BLOCK = 65_535


def class_of(name: str, split: str, index: int) -> str:
    """Return the class of an image: in turn for shapes, that of the source for digits."""
    if name == "shapes":
        return shapes.CLASSES[index % len(shapes.CLASSES)]
    _, target = digits.sources()
    return digits.CLASSES[int(target[digits.split_indices(split)[index]])]


def render(name: str, split: str, index: int, variant: int = 0) -> tuple[NDArray[np.uint8], GroundTruth]:
    """Render image `index` of a split of a synthetic dataset: uint8 (64, 64, 3), and its ground truth.

    Variant 0 is the dataset's image; others render the same source (digits) or class (shapes) with another seed.
    """
    seed = [_SEEDS[name, split], index] if variant == 0 else [_SEEDS[name, split], index, variant]
    rng = np.random.default_rng(seed)
    if name == "shapes":
        return shapes.render(class_of(name, split, index), rng)
    return digits.render(int(digits.split_indices(split)[index]), rng)


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return uint8 (height, width, 3) as uncompressed PNG (ISO/IEC 15948, RFC 1950, RFC 1951).

    The bytes are the same on every machine, because embeddings are stored under their SHA-256; the output of
    compressors differs between versions of zlib.

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
