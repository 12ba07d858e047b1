"""Who encodes what: makes sure that every content is sent once, however many actors meet it."""

from __future__ import annotations

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

    def __init__(self, stored: Iterable[bytes]) -> None:
        self._owner: dict[bytes, int] = dict.fromkeys(stored, -1)

    def claim(self, chunk: int, keys: Sequence[bytes]) -> list[bool]:
        """Return for every key whether this chunk is to encode it; the first to ask gets it."""
        claimed: set[bytes] = set()
        answer = []
        for key in keys:
            mine = self._owner.setdefault(key, chunk) == chunk and key not in claimed
            claimed.add(key)
            answer.append(mine)
        return answer
