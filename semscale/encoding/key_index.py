"""Keys of the store: SHA-256 digests, an index of them in 40 bytes a row, and the claims on what is to be encoded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.bytes_]
Int64 = npt.NDArray[np.int64]

ABSENT = -(2**63)
"""What :meth:`KeyTable.get` gives for a key that is not in the table."""

_STORED = -1
# A dict takes a claim at once, a table takes many in little memory.
_MAX_RECENT = 50_000


def as_keys(digests: Sequence[bytes] | Keys | npt.NDArray[np.void]) -> Keys:
    """Return digests of 32 bytes as numpy's ``S32``, which compares all 32 bytes; ``V32`` does not sort."""
    return digests.view("S32") if isinstance(digests, np.ndarray) else np.array(list(digests), dtype="S32")


def content_digest(content: bytes | str) -> bytes:
    """Return the store's key of a content: the SHA-256 of a file, or of the UTF-8 bytes of a text."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).digest()


class KeyTable:
    """A map from digests to numbers that only grows.

    >>> table = KeyTable()
    >>> table.add(as_keys([b"b" * 32, b"a" * 32, b"b" * 32]), np.array([1, 2, 3]))
    >>> table.get(as_keys([b"a" * 32, b"b" * 32])).tolist(), len(table)
    ([2, 1], 2)
    """

    def __init__(self) -> None:
        self.keys: Keys = np.empty(0, dtype="S32")
        self._values: Int64 = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.keys)

    def get(self, keys: Keys) -> Int64:
        """Return the number of each key, :data:`ABSENT` for those that are not here."""
        if not len(self):
            return np.full(len(keys), ABSENT, dtype=np.int64)
        rows = np.minimum(np.searchsorted(self.keys, keys), len(self) - 1)
        return np.where(self.keys[rows] == keys, self._values[rows], ABSENT)

    def add(self, keys: Keys, values: Int64) -> None:
        """Add keys with their numbers; a key that is here already, or earlier in the same call, keeps its first one."""
        new, first = np.unique(keys, return_index=True)
        fresh = self.get(new) == ABSENT
        new, first = new[fresh], first[fresh]
        rows = np.searchsorted(self.keys, new)
        self.keys = np.insert(self.keys, rows, new)
        self._values = np.insert(self._values, rows, np.asarray(values, dtype=np.int64)[first])


class ContentClaims:
    """Claim registry: every content is encoded by one chunk of work.

    A claim belongs to a chunk and not to an actor, so that a chunk which is repeated after its actor died gets its own
    claims again. What is `stored`, one array of keys for each kind, is claimed by none.

    >>> old, new = b"o" * 32, b"n" * 32
    >>> claims = ContentClaims([[old]])
    >>> claims.claim(0, [old, new, new])
    [False, True, False]
    >>> claims.claim(1, [new]), claims.claim(0, [new])
    ([False], [True])
    """

    def __init__(self, stored: Sequence[Sequence[bytes] | Keys]) -> None:
        self._owners = KeyTable()
        self._recent: dict[bytes, int] = {}
        for keys in stored:
            self._owners.add(as_keys(keys), np.full(len(keys), _STORED))

    def claim(self, chunk: int, keys: Sequence[bytes]) -> list[bool]:
        """Return for every key whether this chunk is to encode it; the first to ask gets it."""
        claimed: set[bytes] = set()
        granted = []
        for key, owner in zip(keys, self._owners.get(as_keys(keys)).tolist(), strict=True):
            if owner == ABSENT:
                owner = self._recent.setdefault(key, chunk)
            granted.append(owner == chunk and key not in claimed)
            claimed.add(key)
        if len(self._recent) > _MAX_RECENT:
            self._owners.add(as_keys(list(self._recent)), np.fromiter(self._recent.values(), dtype=np.int64))
            self._recent.clear()
        return granted
