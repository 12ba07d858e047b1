"""Endpoint pool: least-loaded balancing, and a circuit breaker with exponential backoff per endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_INITIAL_BACKOFF = 0.25
# A call to a server that hangs costs an actor its deadline: while others answer, it is tried once a minute.
_MAX_BACKOFF = 60.0
# When none answers there is nothing else to do.
_MAX_BACKOFF_IN_OUTAGE = 4.0


@dataclass
class _Endpoint:
    failures: int = 0
    last_attempt: float = 0.0
    down_since: float | None = None
    error: str = ""

    def retry_at(self, max_backoff: float) -> float:
        """Return the time of the next attempt; the backoff doubles with every consecutive failure."""
        if not self.failures:
            return 0.0
        return self.last_attempt + min(_INITIAL_BACKOFF * 2.0 ** min(self.failures - 1, 20), max_backoff)


class EndpointPool:
    """Endpoints of a sweep with their states; all times are seconds of one clock.

    >>> pool = EndpointPool(["grpc://a:1", "grpc://b:1"])
    >>> pool.pick(0, now=0.0), pool.pick(1, now=0.0)
    ('grpc://a:1', 'grpc://b:1')
    >>> pool.report_failure("grpc://a:1", "refused", now=0.0)
    True
    >>> pool.pick(0, now=0.1), pool.outage_seconds(now=0.1)
    ('grpc://b:1', None)
    >>> pool.report_failure("grpc://b:1", "refused", now=2.0)
    True
    >>> pool.pick(1, now=2.0), pool.outage_seconds(now=5.0)
    ('grpc://a:1', 3.0)
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self._endpoints = {url: _Endpoint() for url in urls}
        self._empty_since: float | None = None
        self.ejected: dict[str, str] = {}

    @property
    def urls(self) -> tuple[str, ...]:
        """Return the endpoints that are not ejected."""
        return tuple(self._endpoints)

    @property
    def exhausted(self) -> bool:
        """Return whether all endpoints were ejected; a pool that discovery has emptied may be refilled."""
        return not self._endpoints and self._empty_since is None

    def update(self, urls: Sequence[str], now: float) -> tuple[list[str], list[str]]:
        """Replace the endpoints, keeping the states of those that stay; return the added and the removed ones."""
        # an ejected one stays so until its address disappears: afterwards another server may have it
        removed = [url for url in (*self._endpoints, *self.ejected) if url not in urls]
        self.ejected = {url: reason for url, reason in self.ejected.items() if url not in removed}
        added = [url for url in urls if url not in self._endpoints and url not in self.ejected]
        self._endpoints = {url: self._endpoints.get(url) or _Endpoint() for url in urls if url not in self.ejected}
        self._empty_since = None if urls else self._empty_since or now
        return added, removed

    def pick(
        self, preferred: int, now: float, load: Mapping[str, int] | None = None, avoid: str | None = None
    ) -> str | None:
        """Return the least loaded endpoint that is healthy or due for an attempt; None if there is none.

        Of equally loaded ones it is the first from the index `preferred` on. The one to `avoid` comes last.
        """
        if not self._endpoints:
            return None
        urls, load = self.urls, load or {}
        start = preferred % len(urls)
        max_backoff = _MAX_BACKOFF if self.outage_seconds(now) is None else _MAX_BACKOFF_IN_OUTAGE
        for url in sorted([*urls[start:], *urls[:start]], key=lambda url: (url == avoid, load.get(url, 0))):
            endpoint = self._endpoints[url]
            if endpoint.retry_at(max_backoff) <= now:
                endpoint.last_attempt = now  # only one caller at a time tries one that failed
                return url
        return None

    def report_failure(self, url: str, error: str, now: float) -> bool:
        """Record that an endpoint did not answer; return whether it was healthy before."""
        if (endpoint := self._endpoints.get(url)) is None:
            return False
        endpoint.failures += 1
        endpoint.last_attempt, endpoint.error = now, error
        endpoint.down_since = now if endpoint.down_since is None else endpoint.down_since
        return endpoint.failures == 1

    def report_healthy(self, url: str) -> None:
        """Record that an endpoint answers."""
        if url in self._endpoints:
            self._endpoints[url] = _Endpoint()

    def eject(self, url: str, reason: str) -> bool:
        """Remove an endpoint for good; return False if it is not in the pool."""
        if self._endpoints.pop(url, None) is None:
            return False
        self.ejected[url] = reason
        return True

    def outage_seconds(self, now: float) -> float | None:
        """Return the seconds without a healthy endpoint; None while there is one."""
        if self._empty_since is not None:
            return now - self._empty_since
        since = [endpoint.down_since for endpoint in self._endpoints.values()]
        failed = [time for time in since if time is not None]
        return now - max(failed) if failed and len(failed) == len(since) else None

    def last_errors(self) -> str:
        """Return the distinct errors of the endpoints that fail."""
        return "; ".join(dict.fromkeys(endpoint.error for endpoint in self._endpoints.values() if endpoint.error))
