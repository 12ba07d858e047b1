"""Who encodes what and where: every content is sent once, to servers that may be started only when there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence


class Ledger:
    """Knows what is in the store or claimed; one per sweep, used as a Ray actor.

    A claim belongs to a chunk of work and not to an actor, so that a chunk which is repeated after its actor died gets
    its own claims again.

    >>> ledger = Ledger([b"old"])
    >>> ledger.claim(0, [b"old", b"new", b"new"])
    [False, True, False]
    >>> ledger.claim(1, [b"new"]), ledger.claim(0, [b"new"])
    ([False], [True])
    """

    def __init__(self, stored: Iterable[bytes], urls: Sequence[str] = ()) -> None:
        self._owner: dict[bytes, int] = dict.fromkeys(stored, -1)
        self._urls = tuple(urls)
        self._asked, self._open = asyncio.Event(), asyncio.Event()
        if urls:
            self._open.set()

    def claim(self, chunk: int, keys: Sequence[bytes]) -> list[bool]:
        """Return for every key whether this chunk is to encode it; the first to ask gets it."""
        claimed: set[bytes] = set()
        answer = []
        for key in keys:
            mine = self._owner.setdefault(key, chunk) == chunk and key not in claimed
            claimed.add(key)
            answer.append(mine)
        return answer

    async def endpoints(self) -> Sequence[str]:
        """Return the endpoints, to an actor that has something to send; waits until there are any."""
        self._asked.set()
        await self._open.wait()
        return self._urls

    async def asked(self) -> None:
        """Return when somebody has asked for the endpoints."""
        await self._asked.wait()

    async def open(self, urls: Sequence[str]) -> None:
        """Tell all who wait, and those who will ask, where the servers are."""
        self._urls = tuple(urls)
        self._open.set()
