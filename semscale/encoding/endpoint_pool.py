"""Endpoint pool: circuit breakers with exponential backoff, and leases (shared or exclusive) for the encoder actors."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from semscale.errors import SemscaleError

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


_TICK = 0.1
# A short outage needs no word; a long one a line now and then.
_SILENT = 1.0
_EVERY = 5.0


@dataclass(frozen=True)
class News:
    """What the driver is to hear.

    Attributes:
        lines: notes for the user.
        down: not one endpoint answers.
    """

    lines: list[str]
    down: bool


class Gate:
    """Hands places at the endpoints to the actors.

    Any number of actors may be at an endpoint, or one that is alone there: whoever tries documents that may have ended
    the model process must not harm others, nor be harmed by them.

    Args:
        urls: the endpoints; none if :meth:`open` tells them later.
        patience: seconds that all endpoints may be down before the sweep stops.
    """

    def __init__(self, urls: Sequence[str], patience: float) -> None:
        self._roster = Roster(urls)
        self._patience = patience
        self._opened = bool(urls)
        self._lives: dict[int, str] = {}
        self._inside: dict[int, tuple[str, bool]] = {}
        self._wants_alone: dict[int, str] = {}
        self._waiting = 0
        self._lines: list[str] = []
        self._spoken = float("-inf")
        self._empty_since: float | None = None

    async def update(self, urls: Sequence[str]) -> None:
        """Tell which endpoints there are by now; none at all is waited out like endpoints that do not answer."""
        new, gone = self._roster.update(urls)
        self._empty_since = None if urls else self._empty_since or time.monotonic()
        self._lines += [f"new server {url}" for url in new] + [f"server {url} is gone" for url in gone]

    async def open(self, urls: Sequence[str]) -> None:
        """Tell where the servers are, to all who wait and all who will ask; also when they have moved."""
        self._roster = Roster(urls)
        self._opened = True

    async def hello(self, index: int, life: str) -> None:
        """Take note of an actor's new process; what an earlier one of this number held is free again."""
        self._lives[index] = life
        self._inside.pop(index, None)
        self._wants_alone.pop(index, None)

    async def enter(self, index: int, life: str, alone: bool) -> str | Exception:
        """Return the endpoint that the actor is to send to, as soon as there is one, or why there never will be.

        Args:
            index: the actor's number.
            life: names the actor's process.
            alone: nobody else may send there meanwhile.
        """
        self._waiting += 1
        try:
            while self._lives.get(index) == life:
                found = self._place(index, alone)
                if found is not None:
                    return found
                await asyncio.sleep(_TICK)
        finally:
            self._waiting -= 1
        return SemscaleError("this actor was started again")  # nobody hears it: its process is gone

    async def alive(self, url: str) -> None:
        """Take note that an endpoint has answered who it is."""
        self._roster.answered(url)

    async def leave(self, index: int, life: str, url: str, failed: str | None = None, refused: bool = False) -> None:
        """Give the place back.

        Args:
            index, life: as in :meth:`enter`.
            url: where the actor was.
            failed: what went wrong there; None if it answered.
            refused: it is not the right encoder, so that nobody must send there again.
        """
        if self._lives.get(index) == life:
            self._inside.pop(index, None)
        if failed is None:
            self._roster.answered(url)
        elif refused:
            if self._roster.refuse(url, failed):
                self._lines.append(f"{url} is refused: {failed}")
        else:
            self._roster.failed(url, failed, time.monotonic())

    async def news(self) -> News:
        """Return as soon as there is something for the driver."""
        while True:
            now = time.monotonic()
            down = self._down_for(now) if self._waiting else None
            lines, self._lines = self._lines, []
            if down is not None and down >= _SILENT and now - self._spoken >= _EVERY:
                self._spoken = now
                where = ", ".join(self._roster.urls) or "a server"
                lines.append(f"waiting for {where} ({down:.0f} s of {self._patience:g} s)...")
                return News(lines, down=True)
            if lines:
                return News(lines, down=False)
            await asyncio.sleep(_TICK)

    def _place(self, index: int, alone: bool) -> str | Exception | None:
        now = time.monotonic()
        if not self._opened:
            return None
        if not self._roster.urls and self._empty_since is None:
            return self._nobody_left()
        down = self._down_for(now)
        if down is not None and down >= self._patience:
            return self._gone(down)
        if alone and index in self._wants_alone:
            url: str | None = self._wants_alone[index]
        else:
            load = Counter(place for who, (place, _) in self._inside.items() if who != index)
            url = self._roster.pick(index, now, load)
        if url is None or url not in self._roster.urls:
            self._wants_alone.pop(index, None)
            return None
        others = [there for who, (place, there) in self._inside.items() if place == url and who != index]
        if alone and others:
            self._wants_alone[index] = url  # those who come now wait until it had its turn
            return None
        if not alone and (any(others) or url in self._wants_alone.values()):
            return None
        self._wants_alone.pop(index, None)
        self._inside[index] = (url, alone)
        return url

    def _down_for(self, now: float) -> float | None:
        return self._roster.down_for(now) if self._empty_since is None else now - self._empty_since

    def _nobody_left(self) -> SemscaleError:
        return SemscaleError(
            "no clip-server is left that runs the right encoder",
            where=", ".join(self._roster.refused),
            found="; ".join(self._roster.refused.values()),
            hint="put the right server there and give the same command again; what is encoded is kept",
        )

    def _gone(self, down: float) -> SemscaleError:
        return SemscaleError(
            "no clip-server answers any more",
            where=", ".join(self._roster.urls) or None,
            found=f"no answer for {down:.0f} s: {self._roster.found() or 'there is no server'}",
            hint="bring the servers back and give the same command again; what is encoded is kept",
        )
