"""PNG encoding with the same bytes on every machine: stored, since compressors differ between versions of zlib.

Embeddings are stored under the SHA-256 of an image's bytes. 64 x 64 pixels take 12 kB.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

_STORED_BLOCK = 65_535


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return an RGB image as PNG bytes (stored, uncompressed; format: ISO/IEC 15948, RFC 1950, RFC 1951).

    Args:
        pixels: (height, width, 3) colour values 0 to 255.

    Raises:
        ValueError: the array is not (height, width, 3) of uint8.

    >>> encode_png(np.zeros((2, 3, 3), np.uint8))[:8]
    b'\\x89PNG\\r\\n\\x1a\\n'
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"Expected pixels to be uint8 (height, width, 3), but got {pixels.dtype} {pixels.shape}")
    height, width = pixels.shape[:2]
    # the first byte of a row names its filter: 0, none
    data = np.pad(pixels.reshape(height, 3 * width), ((0, 0), (1, 0))).tobytes()
    stored = [b"\x78\x01"]
    for start in range(0, len(data), _STORED_BLOCK):
        block = data[start : start + _STORED_BLOCK]
        is_last = start + _STORED_BLOCK >= len(data)
        stored += [struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF), block]
    stored.append(struct.pack(">I", zlib.adler32(data)))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", b"".join(stored)), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
