"""Who encodes what and where: every content is sent once, to servers that may be started only when there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from semscale.encoding.endpoint_pool import Gate
from semscale.encoding.key_index import ABSENT, Keys, KeyTable, as_keys

_STORED = -1
# A dict takes a claim at once, a table takes many in little room.
_RECENT = 50_000


class Ledger(Gate):
    """Knows what is in the store or claimed; one per sweep, used as a Ray actor.

    A claim belongs to a chunk of work and not to an actor, so that a chunk which is repeated after its actor died gets
    its own claims again.

    Args:
        stored: the keys that are in the store; one array for each of its kinds.
        urls: the endpoints; none if they are started when somebody asks.
        patience: seconds that all endpoints may be down.

    >>> old, new = b"o" * 32, b"n" * 32
    >>> ledger = Ledger([[old]])
    >>> ledger.claim(0, [old, new, new])
    [False, True, False]
    >>> ledger.claim(1, [new]), ledger.claim(0, [new])
    ([False], [True])
    >>> ledger.begin(0, "a process"), ledger.begin(0, "a process"), ledger.begin(0, "the next one")
    (1, 1, 2)
    """

    def __init__(
        self, stored: Sequence[Sequence[bytes] | Keys], urls: Sequence[str] = (), patience: float = 120.0
    ) -> None:
        super().__init__(urls, patience)
        self._owner = KeyTable()
        self._recent: dict[bytes, int] = {}
        self._begun: dict[int, tuple[str, int]] = {}
        for keys in stored:
            self._owner.add(as_keys(keys), np.full(len(keys), _STORED))
        self._asked = asyncio.Event()

    def begin(self, chunk: int, life: str) -> int:
        """Return how many processes have begun with this chunk, this one included."""
        last, processes = self._begun.get(chunk, ("", 0))
        self._begun[chunk] = life, processes + (life != last)
        return self._begun[chunk][1]

    def claim(self, chunk: int, keys: Sequence[bytes]) -> list[bool]:
        """Return for every key whether this chunk is to encode it; the first to ask gets it."""
        claimed: set[bytes] = set()
        answer = []
        for key, owner in zip(keys, self._owner.get(as_keys(keys)).tolist(), strict=True):
            if owner == ABSENT:
                owner = self._recent.setdefault(key, chunk)
            answer.append(owner == chunk and key not in claimed)
            claimed.add(key)
        if len(self._recent) > _RECENT:
            self._owner.add(as_keys(list(self._recent)), np.fromiter(self._recent.values(), dtype=np.int64))
            self._recent.clear()
        return answer

    async def asked(self) -> None:
        """Return when somebody has something to send."""
        await self._asked.wait()

    async def enter(self, index: int, life: str, alone: bool) -> str | Exception:
        """Take a place at an endpoint, see :class:`Gate`; wakes who waits for :meth:`asked`."""
        self._asked.set()
        return await super().enter(index, life, alone)
