"""Throughput: accounts of who encoded how much, adaptive batch sizes, and guided self-scheduling of chunks."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("endpoint", "node", "actor", "calls", "images", "texts", "seconds")


@dataclass(frozen=True)
class Call:
    """Documents that an endpoint has encoded in one call.

    Attributes:
        endpoint: its address.
        documents: how many.
        seconds: how long it took.
    """

    endpoint: str
    documents: int
    seconds: float


@dataclass(frozen=True)
class Work:
    """What an actor had encoded through an endpoint for one chunk.

    Attributes:
        endpoint: its address.
        node: the actor's machine: IP address and the beginning of Ray's node id.
        actor: the actor's number.
        kind: ``image`` or ``text``.
        documents: how many rows came back.
        seconds: how long the calls took.
    """

    endpoint: str
    node: str
    actor: int
    kind: str
    documents: int
    seconds: float


class WorkLog:
    """Adds work up by endpoint, node and actor; its size does not grow with what is encoded.

    >>> log = WorkLog()
    >>> log.add([Work("grpc://a:1", "n", 0, "image", 60, 1.0), Work("grpc://a:1", "n", 0, "text", 5, 0.5)])
    >>> log.table().values.tolist()
    [['grpc://a:1', 'n', 0, 2, 60, 5, 1.5]]
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str, int], list[float]] = {}

    def add(self, work: Iterable[Work]) -> None:
        """Take note of finished work."""
        for one in work:
            sums = self._sums.setdefault((one.endpoint, one.node, one.actor), [0, 0, 0, 0.0])
            for place, more in enumerate(
                (1, *((one.documents, 0) if one.kind == "image" else (0, one.documents)), one.seconds)
            ):
                sums[place] += more

    def table(self) -> pd.DataFrame:
        """Return a row per endpoint, node and actor: calls, images, texts, and seconds spent in calls.

        Calls of one actor overlap, so their seconds may be more than have passed.
        """
        import pandas as pd  # takes a quarter of a second, and the actors never ask for the table

        rows = [(*place, *sums) for place, sums in sorted(self._sums.items())]
        return pd.DataFrame(rows, columns=list(COLUMNS))


# Long enough that what a request costs beside its rows (some 5 ms) vanishes, short enough to spread over replicas.
_REQUEST_SECONDS = 0.15
# Requests of a few MB travel well; one of 2 GB fails.
_REQUEST_BYTES = 8 << 20
_MAX_ROWS = 1024
# A call may take this share of its deadline, for the server has other clients too.
_DEADLINE_SHARE = 0.25


class BatchSizer:
    """Adaptive sizes of requests and calls on one connection; results do not depend on them.

    The first call is small, so that a slow server meets its deadline; then sizes follow the measured rate, at most
    doubling from call to call.

    Args:
        fixed: rows per request if the user chose it; None adapts.
        quantum: rows that the server computes at once; requests are multiples of it.
        deadline: seconds that the server has for a call.

    >>> sizer = BatchSizer(None, quantum=16, deadline=120.0)
    >>> sizer.request_rows(row_bytes=4800), sizer.call_rows()
    (16, 64)
    >>> sizer.record(rows=64, seconds=0.05)  # 1,280 rows per second
    >>> sizer.request_rows(row_bytes=4800), sizer.request_rows(row_bytes=150_528), sizer.call_rows()
    (128, 48, 128)
    """

    def __init__(self, fixed: int | None, quantum: int, deadline: float) -> None:
        self._fixed = fixed
        self._quantum = max(1, quantum)
        self._deadline = deadline
        self._rate: float | None = None
        self._call_rows = 4 * (fixed or self._quantum)

    def request_rows(self, row_bytes: int = 1) -> int:
        """Return how many rows of this many bytes go into a request."""
        if self._fixed or self._rate is None:
            return self._fixed or self._quantum
        fitting = min(_MAX_ROWS, _REQUEST_BYTES // max(1, row_bytes))
        timely = self._rate * _REQUEST_SECONDS
        rows = self._quantum
        while 2 * rows <= min(fitting, timely):
            rows *= 2
        if 2 * rows > fitting:  # whole quanta still fit where a doubling is too much in bytes
            rows = max(rows, min(int(timely), fitting) // self._quantum * self._quantum)
        return rows

    def call_rows(self) -> int:
        """Return how many rows may be on the wire in one call."""
        return self._call_rows

    def record(self, rows: int, seconds: float) -> None:
        """Record the rows and seconds of a call."""
        rate = rows / max(seconds, 1e-6)
        self._rate = rate if self._rate is None else (self._rate + rate) / 2
        affordable = int(self._rate * self._deadline * _DEADLINE_SHARE)
        self._call_rows = max(self._quantum, min(2 * self._call_rows, affordable))


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
