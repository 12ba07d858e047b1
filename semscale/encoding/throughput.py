"""Throughput: how much each endpoint encoded, adaptive batch sizes, and guided self-scheduling of chunks."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("endpoint", "node", "actor", "calls", "images", "texts", "seconds")


class ThroughputRecord(NamedTuple):
    """Documents of a kind, ``image`` or ``text``, that an actor on a node had encoded by an endpoint in one call."""

    endpoint: str
    node: str
    actor: int
    kind: str
    documents: int
    seconds: float


class ThroughputLog:
    """Sums of records by endpoint, node and actor; their size does not grow with what is encoded.

    >>> log = ThroughputLog()
    >>> log.add([ThroughputRecord("grpc://a:1", "n", 0, "image", 60, 1.0)])
    >>> log.add([ThroughputRecord("grpc://a:1", "n", 0, "text", 5, 0.5)])
    >>> log.table().values.tolist()
    [['grpc://a:1', 'n', 0, 2, 60, 5, 1.5]]
    """

    def __init__(self) -> None:
        self._sums: defaultdict[tuple[str, str, int], list[float]] = defaultdict(lambda: [0, 0, 0, 0.0])

    def add(self, records: Iterable[ThroughputRecord]) -> None:
        """Add finished calls."""
        for record in records:
            sums = self._sums[record.endpoint, record.node, record.actor]
            sums[0] += 1
            sums[1 if record.kind == "image" else 2] += record.documents
            sums[3] += record.seconds

    def table(self) -> pd.DataFrame:
        """Return a row per endpoint, node and actor: calls, images, texts, and seconds spent in calls.

        Calls of one actor overlap, so their seconds may be more than have passed.
        """
        import pandas as pd  # takes a quarter of a second, and actors need no table

        rows = [(*key, *sums) for key, sums in sorted(self._sums.items())]
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

    The first call is small, so that a slow server meets its deadline in seconds; then sizes follow the measured rate,
    at most doubling from call to call. Requests have a `fixed` number of rows, or multiples of the `quantum` of rows
    that the server computes at once.

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


# an actor's last share is cut into about so many chunks
_PARTS = 4


class ChunkScheduler:
    """Guided self-scheduling: chunk sizes with which all actors end at about the same time.

    Actors pull, so a fast one gets more by itself; what a slow one still has when the others are done is waited for.
    It is therefore given no more than it can finish, at its rate so far, by the time that everybody is done, and
    that in ever smaller chunks: those of one actor may go to servers of different speed, and the slowest ends last.
    Chunks have at most `chunk` items, and all but the last at least `smallest`.

    >>> now = iter([0.0, 0.0, 1.0, 10.0, 10.0])
    >>> scheduler = ChunkScheduler(256, 64, clock=lambda: next(now))
    >>> scheduler.size(0, 10_000)
    256
    >>> scheduler.assign(0, 256), scheduler.assign(1, 256)
    (None, None)
    >>> scheduler.finish(0, 256), scheduler.finish(1, 256)  # after one second, and after ten
    (None, None)
    >>> scheduler.assign(0, 256)
    >>> scheduler.size(0, 300), scheduler.size(1, 300), scheduler.size(1, 50_000)
    (64, 0, 256)
    """

    def __init__(self, chunk: int, smallest: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._chunk = chunk
        self._smallest = smallest
        self._clock = clock
        self._assigned: defaultdict[int, int] = defaultdict(int)
        self._done: defaultdict[int, int] = defaultdict(int)
        self._since: dict[int, float] = {}
        self._seconds: defaultdict[int, float] = defaultdict(float)

    def assign(self, actor: int, items: int) -> None:
        """Record that an actor was given items."""
        if not self._assigned[actor]:
            self._since[actor] = self._clock()
        self._assigned[actor] += items

    def finish(self, actor: int, items: int) -> None:
        """Record that it has done them."""
        now = self._clock()
        self._done[actor] += items
        self._assigned[actor] -= items
        self._seconds[actor] += now - self._since[actor]
        self._since[actor] = now

    def size(self, actor: int, left: int) -> int:
        """Return the size of this actor's next chunk; 0 if others would finish what is left sooner."""
        rates = {index: done / max(self._seconds[index], 1e-6) for index, done in self._done.items()}
        if actor not in rates or not left:
            return self._chunk
        seconds = (left + sum(self._assigned.values())) / sum(rates.values())
        affordable = rates[actor] * seconds - self._assigned[actor]
        if affordable >= self._smallest:
            part = math.floor(affordable / _PARTS / self._smallest) * self._smallest
            return min(self._chunk, max(self._smallest, part))
        # somebody has to do what is left
        others_busy = any(items for index, items in self._assigned.items() if index != actor)
        return 0 if others_busy else self._smallest
