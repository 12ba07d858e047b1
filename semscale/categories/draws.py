"""Seeded draws by hash: the same in every version of every library, and each independent of the others."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def draw(*key: object, below: int) -> int:
    """Return a whole number from 0 to `below` - 1 that depends on the key alone.

    It is the SHA-256 of the key's parts modulo `below`; with 256 bits the bias is nothing.

    >>> draw("demo", 1, below=10) == draw("demo", 1, below=10) < 10
    True
    """
    packed = "\x1f".join(map(str, key)).encode()
    return int.from_bytes(hashlib.sha256(packed).digest(), "big") % below


def shuffled(items: Sequence[str], *key: object) -> list[str]:
    """Return the items in an order that depends on the key and on each item alone.

    Taking items away leaves the order of the others as it is.

    >>> sorted(shuffled(["a", "b", "c"], 1)), shuffled(["a", "b", "c"], 1) == shuffled(["c", "b", "a"], 1)
    (['a', 'b', 'c'], True)
    """
    return sorted(items, key=lambda item: hashlib.sha256("\x1f".join(map(str, (*key, item))).encode()).digest())
