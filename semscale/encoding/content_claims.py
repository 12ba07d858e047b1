"""Claim registry: assigns every content to one chunk of work, so that it is sent once per sweep."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from semscale.store.key_index import ABSENT, KeyIndex, Keys, as_keys

_STORED = -1
# Claims are fast in a dict, and small in an index.
_MAX_RECENT = 50_000


class ContentClaims:
    """Claims of chunks on contents.

    A claim belongs to a chunk and not to an actor: a chunk that is repeated after its actor died gets its claims again.
    The keys in `stored`, one array for each kind of content, cannot be claimed.

    >>> old, new = b"o" * 32, b"n" * 32
    >>> claims = ContentClaims([[old]])
    >>> claims.claim(0, [old, new, new])
    [False, True, False]
    >>> claims.claim(1, [new]), claims.claim(0, [new])
    ([False], [True])
    """

    def __init__(self, stored: Sequence[Sequence[bytes] | Keys]) -> None:
        self._owners = KeyIndex()
        self._recent: dict[bytes, int] = {}
        for keys in stored:
            self._owners.add(as_keys(keys), np.full(len(keys), _STORED))

    def claim(self, chunk: int, keys: Sequence[bytes]) -> list[bool]:
        """Return for every key whether this chunk has to encode it; the first chunk to claim a key gets it."""
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
