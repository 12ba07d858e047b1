"""Key index of the store: a map from SHA-256 digests to row addresses, in 40 bytes a row."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.bytes_]
Int64 = npt.NDArray[np.int64]

ABSENT = -(2**63)
"""Value that :meth:`KeyIndex.get` returns for a key that is not in the index."""


def as_keys(digests: Sequence[bytes] | Keys | npt.NDArray[np.void]) -> Keys:
    """Return digests of 32 bytes as numpy's ``S32``, which sorts, unlike ``V32``, and compares all 32 bytes."""
    return digests.view("S32") if isinstance(digests, np.ndarray) else np.array(list(digests), dtype="S32")


def content_digest(content: bytes | str) -> bytes:
    """Return the store's key of a content: the SHA-256 of a file, or of the UTF-8 bytes of a text."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).digest()


class KeyIndex:
    """Append-only map from digests to integers.

    >>> index = KeyIndex()
    >>> index.add(as_keys([b"b" * 32, b"a" * 32, b"b" * 32]), np.array([1, 2, 3]))
    >>> index.get(as_keys([b"a" * 32, b"b" * 32])).tolist(), len(index)
    ([2, 1], 2)
    """

    def __init__(self) -> None:
        self.keys: Keys = np.empty(0, dtype="S32")
        self._values: Int64 = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.keys)

    def get(self, keys: Keys) -> Int64:
        """Return the value of each key; :data:`ABSENT` if it is missing."""
        if not len(self):
            return np.full(len(keys), ABSENT, dtype=np.int64)
        rows = np.minimum(np.searchsorted(self.keys, keys), len(self) - 1)
        return np.where(self.keys[rows] == keys, self._values[rows], ABSENT)

    def add(self, keys: Keys, values: Int64) -> None:
        """Add keys with their values; a key that exists, or occurs earlier in the call, keeps its first value."""
        new, first = np.unique(keys, return_index=True)
        is_absent = self.get(new) == ABSENT
        new, first = new[is_absent], first[is_absent]
        rows = np.searchsorted(self.keys, new)
        self.keys = np.insert(self.keys, rows, new)
        self._values = np.insert(self._values, rows, np.asarray(values, dtype=np.int64)[first])
