"""Which endpoints are good, which are left alone for a while after a failure, and which are refused for good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_FIRST_REST = 0.25
# Asking a server that hangs costs an actor many seconds: while others answer, that is done once a minute.
_LONGEST_REST = 60.0
# When nobody answers there is nothing else to do than to ask again.
_LONGEST_REST_OF_ALL = 4.0


@dataclass
class _Endpoint:
    failures: int = 0
    tried: float = 0.0
    down_since: float | None = None
    found: str = ""

    def rested(self, longest: float) -> float:
        """Return when it may be asked again; the pause doubles with every failure in a row."""
        if not self.failures:
            return 0.0
        return self.tried + min(_FIRST_REST * 2.0 ** min(self.failures - 1, 20), longest)


class Roster:
    """The endpoints of a sweep as its actors find them; times are seconds of one clock, handed in.

    >>> roster = Roster(["grpc://a:1", "grpc://b:1"])
    >>> roster.pick(0, now=0.0), roster.pick(1, now=0.0)
    ('grpc://a:1', 'grpc://b:1')
    >>> roster.failed("grpc://a:1", "refused", now=0.0)
    >>> roster.pick(0, now=0.1), roster.down_for(now=0.1)
    ('grpc://b:1', None)
    >>> roster.failed("grpc://b:1", "refused", now=2.0)
    >>> roster.pick(1, now=2.0), roster.down_for(now=5.0)
    ('grpc://a:1', 3.0)
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self._endpoints = {url: _Endpoint() for url in urls}
        self.refused: dict[str, str] = {}

    @property
    def urls(self) -> tuple[str, ...]:
        """Return the endpoints that are not refused."""
        return tuple(self._endpoints)

    def update(self, urls: Sequence[str]) -> tuple[list[str], list[str]]:
        """Have these endpoints from now on, and return which of them are new and which are gone.

        What is known of those that stay is kept. One that was refused stays so until it has been away from the list:
        then another server may have taken its address.
        """
        gone = [url for url in (*self._endpoints, *self.refused) if url not in urls]
        self.refused = {url: why for url, why in self.refused.items() if url not in gone}
        new = [url for url in urls if url not in self._endpoints and url not in self.refused]
        self._endpoints = {url: self._endpoints.get(url) or _Endpoint() for url in urls if url not in self.refused}
        return new, gone

    def pick(self, preferred: int, now: float, load: Mapping[str, int] | None = None) -> str | None:
        """Return the endpoint to ask; None while all are left alone.

        It is the one with the least load, and of several the one of this number or those behind it. An endpoint that
        failed is handed to one caller, and then rests again until it has answered.

        Args:
            preferred: the caller's number.
            now: the time.
            load: how many callers are at each endpoint.
        """
        urls = self.urls
        if not urls:
            return None
        start, load = preferred % len(urls), load or {}
        order = sorted([*urls[start:], *urls[:start]], key=lambda url: load.get(url, 0))
        longest = _LONGEST_REST if self.down_for(now) is None else _LONGEST_REST_OF_ALL
        for url in order:
            endpoint = self._endpoints[url]
            if endpoint.rested(longest) <= now:
                endpoint.tried = now
                return url
        return None

    def failed(self, url: str, found: str, now: float) -> None:
        """Take note that an endpoint did not answer."""
        endpoint = self._endpoints.get(url)
        if endpoint is None:
            return
        endpoint.failures += 1
        endpoint.tried, endpoint.found = now, found
        if endpoint.down_since is None:
            endpoint.down_since = now

    def answered(self, url: str) -> None:
        """Take note that an endpoint answers."""
        if url in self._endpoints:
            self._endpoints[url] = _Endpoint()

    def refuse(self, url: str, reason: str) -> bool:
        """Never hand this endpoint out again; return whether that is news."""
        if self._endpoints.pop(url, None) is None:
            return False
        self.refused[url] = reason
        return True

    def down_for(self, now: float) -> float | None:
        """Return for how many seconds not one endpoint has answered; None if there is hope for one."""
        since = [endpoint.down_since for endpoint in self._endpoints.values()]
        known = [one for one in since if one is not None]
        return now - max(known) if known and len(known) == len(since) else None

    def found(self) -> str:
        """Return what was found at the endpoints that fail, in words."""
        return "; ".join(dict.fromkeys(one.found for one in self._endpoints.values() if one.found))
