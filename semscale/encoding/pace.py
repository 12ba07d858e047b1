"""How much goes into a request and into a call, chosen from how fast the answers come and adapted with every call."""

from __future__ import annotations

# Long enough that what a request costs beside its rows (some 5 ms) vanishes, short enough to spread over replicas.
_REQUEST_SECONDS = 0.15
# Requests of a few MB travel well; one of 2 GB fails.
_REQUEST_BYTES = 8 << 20
_MOST_ROWS = 1024
# A call has this share of its deadline, for the server has other clients too.
_DEADLINE_SHARE = 0.25


class Pace:
    """The size of requests and calls on one connection; results do not depend on it.

    The first call is small, so that a slow server meets its deadline; then sizes follow the measured rate, at most
    doubling from call to call.

    Args:
        fixed: rows per request if the user chose it; None adapts.
        quantum: rows that the server computes at once; requests are multiples of it.
        deadline: seconds that the server has for a call.

    >>> pace = Pace(None, quantum=16, deadline=120.0)
    >>> pace.request_rows(row_bytes=4800), pace.call_rows()
    (16, 64)
    >>> pace.note(rows=64, seconds=0.05)  # 1,280 rows per second
    >>> pace.request_rows(row_bytes=4800), pace.request_rows(row_bytes=150_528), pace.call_rows()
    (128, 48, 128)
    """

    def __init__(self, fixed: int | None, quantum: int, deadline: float) -> None:
        self._fixed = fixed
        self._quantum = max(1, quantum)
        self._deadline = deadline
        self._rate: float | None = None
        self._most = 4 * (fixed or self._quantum)

    def request_rows(self, row_bytes: int = 1) -> int:
        """Return how many rows of this many bytes go into a request."""
        if self._fixed:
            return self._fixed
        rows = self._quantum
        if self._rate is not None:
            fitting = min(_MOST_ROWS, _REQUEST_BYTES // max(1, row_bytes))
            while 2 * rows <= min(fitting, self._rate * _REQUEST_SECONDS):
                rows *= 2
            # where a doubling is too much in bytes, whole quanta still fit
            if 2 * rows > fitting:
                rows = max(rows, min(int(self._rate * _REQUEST_SECONDS), fitting) // self._quantum * self._quantum)
        return rows

    def call_rows(self) -> int:
        """Return how many rows may be on the wire in one call."""
        return self._most

    def note(self, rows: int, seconds: float) -> None:
        """Take a call's rows and seconds into account."""
        rate = rows / max(seconds, 1e-6)
        self._rate = rate if self._rate is None else (self._rate + rate) / 2
        affordable = int(self._rate * self._deadline * _DEADLINE_SHARE)
        self._most = max(self._quantum, min(2 * self._most, affordable))
