"""How much an actor is given next: a full chunk while there is plenty, less near the end where its server is slow."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable

# an actor's last share is given in about so many chunks
_PARTS = 4


class Share:
    """Cuts a piece of work into chunks so that all actors end at about the same time.

    Actors pull, so a fast one gets more by itself; what a slow one still has when the others are done is waited for.
    It is therefore given no more than it can finish, at its rate so far, by the time that everybody is done, and
    that in ever smaller chunks: those of one actor may go to servers of different speed, and the slowest ends last.

    Args:
        chunk: items of a full chunk.
        least: items of the smallest one.
        clock: seconds.

    >>> now = iter([0.0, 0.0, 0.0, 1.0, 10.0, 10.0])
    >>> share = Share(256, 64, clock=lambda: next(now))
    >>> share.size(0, 10_000)
    256
    >>> share.given(0, 256), share.given(1, 256)
    (None, None)
    >>> share.finished(0, 256), share.finished(1, 256)  # after one second, and after ten
    (None, None)
    >>> share.given(0, 256)
    >>> share.size(0, 300), share.size(1, 300), share.size(1, 50_000)
    (64, 0, 256)
    """

    def __init__(self, chunk: int, least: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._chunk = chunk
        self._least = least
        self._clock = clock
        self._waiting: Counter[int] = Counter()
        self._begun: dict[int, float] = {}
        self._busy: Counter[int] = Counter()
        self._done: Counter[int] = Counter()
        clock()

    def given(self, actor: int, items: int) -> None:
        """Take note that an actor was given work."""
        if not self._waiting[actor]:
            self._begun[actor] = self._clock()
        self._waiting[actor] += items

    def finished(self, actor: int, items: int) -> None:
        """Take note that it has done it."""
        self._done[actor] += items
        self._waiting[actor] -= items
        now = self._clock()
        self._busy[actor] += now - self._begun[actor]  # type: ignore[assignment]
        self._begun[actor] = now

    def size(self, actor: int, left: int) -> int:
        """Return how many of the items that are left the actor is to have now; 0 while others are better placed."""
        rates = {one: done / max(self._busy[one], 1e-6) for one, done in self._done.items()}
        if actor not in rates or not left:
            return self._chunk
        everything = left + sum(self._waiting.values())
        seconds = everything / sum(rates.values())
        affordable = rates[actor] * seconds - self._waiting[actor]
        if affordable >= self._least:
            part = math.floor(affordable / _PARTS / self._least) * self._least
            return min(self._chunk, max(self._least, part))
        # somebody has to do what is left
        busy = any(count for one, count in self._waiting.items() if one != actor)
        return 0 if busy else self._least
