"""Throughput log of the endpoints, and adaptive batch sizes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("endpoint", "node", "actor", "calls", "images", "texts", "seconds")


class ThroughputRecord(NamedTuple):
    """Documents of a kind, ``image`` or ``text``, that an endpoint encoded in one call of an actor."""

    endpoint: str
    node: str
    actor: int
    kind: str
    documents: int
    seconds: float


class ThroughputLog:
    """Sums of records by endpoint, node and actor, of constant size.

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
        """Return a row per endpoint, node and actor; the calls of an actor overlap, and so do their seconds."""
        import pandas as pd  # slow to import, and actors need no table

        rows = [(*key, *sums) for key, sums in sorted(self._sums.items())]
        return pd.DataFrame(rows, columns=list(COLUMNS))


# Long compared to the overhead of a request (some 5 ms), short enough to spread requests over replicas.
_REQUEST_SECONDS = 0.15
# Requests of a few MB are efficient; one of 2 GB fails.
_TARGET_REQUEST_BYTES = 8 << 20
_MAX_ROWS = 1024
# A file may be larger than that; servers reject much larger requests.
_MAX_REQUEST_BYTES = 64 << 20
# share of its deadline that a call may take: the server has other clients
_DEADLINE_SHARE = 0.25


class BatchSizer:
    """Adaptive sizes of requests and calls on one connection; results do not depend on them.

    The first call is small, so that also a slow server meets the deadline; then sizes follow the measured rate, at most
    doubling from call to call. Requests have a `fixed` number of rows, or multiples of the server's `minibatch`.

    >>> sizer = BatchSizer(None, minibatch=16, deadline=120.0)
    >>> sizer.request_rows(row_bytes=4800), sizer.call_rows()
    (16, 64)
    >>> sizer.record(rows=64, seconds=0.05)  # 1,280 rows per second
    >>> sizer.request_rows(row_bytes=4800), sizer.request_rows(row_bytes=150_528), sizer.call_rows()
    (192, 48, 128)
    >>> sizer.request_rows(row_bytes=32 << 20)
    2
    """

    def __init__(self, fixed: int | None, minibatch: int, deadline: float) -> None:
        self._fixed = fixed
        self._minibatch = max(1, minibatch)
        self._deadline = deadline
        self._rate: float | None = None
        self._call_rows = 4 * (fixed or self._minibatch)

    def request_rows(self, row_bytes: int = 1) -> int:
        """Return the number of rows, of so many bytes each, for a request."""
        rows = self._fixed or self._minibatch
        if not self._fixed and self._rate is not None:
            max_rows = min(int(self._rate * _REQUEST_SECONDS), _TARGET_REQUEST_BYTES // max(1, row_bytes), _MAX_ROWS)
            rows = max(rows, max_rows // rows * rows)
        return min(rows, max(1, _MAX_REQUEST_BYTES // max(1, row_bytes)))

    def call_rows(self) -> int:
        """Return the number of rows for a call."""
        return self._call_rows

    def record(self, rows: int, seconds: float) -> None:
        """Record the rows and the duration of a call."""
        rate = rows / max(seconds, 1e-6)
        self._rate = rate if self._rate is None else (self._rate + rate) / 2
        affordable = int(self._rate * self._deadline * _DEADLINE_SHARE)
        self._call_rows = max(self._minibatch, min(2 * self._call_rows, affordable))
