"""Coordinator of the encoder actors: grants leases on endpoints and claims on contents; one Ray actor per sweep."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from semscale.common.errors import SemscaleError, ServerError
from semscale.encoding.content_claims import ContentClaims
from semscale.encoding.endpoint_pool import EndpointPool
from semscale.store.key_index import Keys

_POLL_SECONDS = 0.1
# A short outage is not reported; a long one is, at intervals.
_MIN_OUTAGE_SECONDS = 1.0
_MESSAGE_INTERVAL = 5.0


class _Lease(NamedTuple):
    url: str
    exclusive: bool


class Coordinator:
    """Grants leases to the connection slots of actors and claims to chunks, and reports outages to the driver.

    An endpoint has any number of shared leases, or one exclusive lease, for documents that may have crashed a model. An
    actor is identified by its slots, and its process by an incarnation id. A coordinator, also one that Ray has
    restarted, has no endpoints until :meth:`open`, and learns of actors from their calls.

    >>> coordinator = Coordinator([])
    >>> [coordinator.record_attempt(0, [0, 1], incarnation) for incarnation in ("first", "first", "second")]
    [1, 1, 2]
    """

    def __init__(self, stored: Sequence[Sequence[bytes] | Keys], outage_timeout: float = 120.0) -> None:
        self._claims = ContentClaims(stored)
        self._pool = EndpointPool([])
        self._outage_timeout = outage_timeout
        self._opened = False
        self._demand = asyncio.Event()
        self._attempts: dict[int, list[str]] = {}
        self._incarnations: set[str] = set()
        self._slots: dict[int, str] = {}
        self._leases: dict[int, _Lease] = {}
        self._wants_exclusive: dict[int, str] = {}
        self._waiting = 0
        self._messages: list[str] = []
        self._last_message = float("-inf")

    def record_attempt(self, chunk: int, slots: Sequence[int], incarnation: str) -> int:
        """Count the processes that have started this chunk; a new process releases the leases of its slots."""
        if incarnation not in self._incarnations:
            self._incarnations.add(incarnation)
            for slot in slots:
                self._slots[slot] = incarnation
                self._leases.pop(slot, None)
                self._wants_exclusive.pop(slot, None)
        attempts = self._attempts.setdefault(chunk, [])
        if incarnation not in attempts:
            attempts.append(incarnation)
        return len(attempts)

    def claim(self, chunk: int, keys: Sequence[bytes]) -> list[bool]:
        """Return for every key whether this chunk has to encode it."""
        return self._claims.claim(chunk, keys)

    async def wait_for_demand(self) -> None:
        """Wait until an actor has something to send while no endpoint is known."""
        await self._demand.wait()

    async def open(self, urls: Sequence[str]) -> None:
        """Set the endpoints; an empty list counts as an outage."""
        self._pool.update(urls, time.monotonic())
        self._opened = True
        self._demand.clear()

    async def update(self, urls: Sequence[str]) -> None:
        """Replace the endpoints by those that service discovery found, and report the changes."""
        if not self._opened:
            return
        added, removed = self._pool.update(urls, time.monotonic())
        self._messages += [f"new server {url}" for url in added] + [f"server {url} is gone" for url in removed]

    async def acquire_lease(
        self, slot: int, incarnation: str, exclusive: bool, avoid: str | None = None
    ) -> str | Exception:
        """Wait for a lease; return its endpoint, if possible not the one to `avoid`, or the error if there is none."""
        if not self._opened:
            self._demand.set()
        self._slots.setdefault(slot, incarnation)
        self._waiting += 1
        try:
            while self._slots.get(slot) == incarnation:
                if (url_or_error := self._try_lease(slot, exclusive, avoid)) is not None:
                    return url_or_error
                await asyncio.sleep(_POLL_SECONDS)
        finally:
            self._waiting -= 1
        return ServerError("this actor was restarted")  # without a receiver: the process has ended

    async def report_healthy(self, url: str) -> None:
        """Record that an endpoint answers with the right encoder."""
        self._pool.report_healthy(url)

    async def release_lease(
        self, slot: int, incarnation: str, url: str, error: str | None = None, eject: bool = False
    ) -> None:
        """Release a lease, with the error of the endpoint if it failed; `eject` one that is not the right encoder."""
        if self._slots.get(slot) == incarnation:
            self._leases.pop(slot, None)
        if error is None:
            self._pool.report_healthy(url)
        elif not eject:
            if self._pool.report_failure(url, error, time.monotonic()):
                self._messages.append(f"{url} is unavailable and retried later: {error}")
        elif self._pool.eject(url, error):
            self._messages.append(f"{url} is rejected: {error}")

    async def next_status(self) -> tuple[list[str], bool]:
        """Wait for messages for the user; return them, and whether no endpoint answers."""
        while True:
            now = time.monotonic()
            outage = self._pool.outage_seconds(now) if self._waiting else None
            messages, self._messages = self._messages, []
            if outage is not None and outage >= _MIN_OUTAGE_SECONDS and now - self._last_message >= _MESSAGE_INTERVAL:
                self._last_message = now
                names = ", ".join(self._pool.urls) or "a server"
                messages.append(f"waiting for {names} ({outage:.0f} s of {self._outage_timeout:g} s)...")
                return messages, True
            if messages:
                return messages, False
            await asyncio.sleep(_POLL_SECONDS)

    def _try_lease(self, slot: int, exclusive: bool, avoid: str | None) -> str | Exception | None:
        now = time.monotonic()
        if not self._opened:
            return None
        if error := self._outage_error(now):
            return error
        url = self._wants_exclusive.pop(slot, None) if exclusive else None
        if url is None:
            load = Counter(lease.url for other, lease in self._leases.items() if other != slot)
            url = self._pool.pick(slot, now, load, avoid)
        if url is None or url not in self._pool.urls:
            return None
        others = [lease for other, lease in self._leases.items() if lease.url == url and other != slot]
        if exclusive and others:
            self._wants_exclusive[slot] = url  # until it is granted, no shared lease is
            return None
        if not exclusive and (any(lease.exclusive for lease in others) or url in self._wants_exclusive.values()):
            return None
        self._leases[slot] = _Lease(url, exclusive)
        return url

    def _outage_error(self, now: float) -> SemscaleError | None:
        resume = "and run the same command again; what is encoded is kept"
        if self._pool.exhausted:
            where, found = ", ".join(self._pool.ejected), "; ".join(self._pool.ejected.values())
            what, hint = "no clip-server is left that runs the right encoder", f"start the right server there {resume}"
            return ServerError(what, where=where, found=found, hint=hint)
        outage = self._pool.outage_seconds(now)
        if outage is None or outage < self._outage_timeout:
            return None
        where, hint = ", ".join(self._pool.urls), f"restart the servers {resume}"
        found = f"no answer for {outage:.0f} s: {self._pool.last_errors() or 'no server is known'}"
        return ServerError("no clip-server answers any more", where=where or None, found=found, hint=hint)
