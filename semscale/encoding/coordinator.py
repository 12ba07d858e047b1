"""Coordinator of the encoder actors, one Ray actor per sweep: leases on endpoints, and claims on contents."""

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
# A short outage needs no message; a long one a message now and then.
_SILENT_SECONDS = 1.0
_MESSAGE_SECONDS = 5.0


class _Lease(NamedTuple):
    url: str
    exclusive: bool


class Coordinator:
    """Grants the actors' connections leases on endpoints, claims on contents, and reports outages to the driver.

    An endpoint has any number of shared leases, or an exclusive one, for documents that may have ended a model process.
    An actor is known by the slots of its connections, and its process by an incarnation id. A coordinator, also one
    that Ray has started again, knows of no server until :meth:`open`, and learns of actors from their calls.

    >>> coordinator = Coordinator([])
    >>> [coordinator.begin(0, [0, 1], incarnation) for incarnation in ("first", "first", "second")]
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

    def begin(self, chunk: int, slots: Sequence[int], incarnation: str) -> int:
        """Return how many processes have begun this chunk, this one included; a new process frees its slots' leases."""
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
        """Return for every key whether this chunk is to encode it."""
        return self._claims.claim(chunk, keys)

    async def wait_for_demand(self) -> None:
        """Return when an actor has something to send, and no server is known."""
        await self._demand.wait()

    async def open(self, urls: Sequence[str]) -> None:
        """Set the endpoints; if there are none, that is an outage."""
        self._pool.update(urls, time.monotonic())
        self._opened = True
        self._demand.clear()

    async def update(self, urls: Sequence[str]) -> None:
        """Set the endpoints that service discovery gives, as :meth:`open` does, and tell the user what changes."""
        if not self._opened:
            return
        new, gone = self._pool.update(urls, time.monotonic())
        self._messages += [f"new server {url}" for url in new] + [f"server {url} is gone" for url in gone]

    async def acquire_lease(
        self, slot: int, incarnation: str, exclusive: bool, avoid: str | None = None
    ) -> str | Exception:
        """Return the endpoint that a slot may send to, rather another than `avoid`, or why there will be none."""
        if not self._opened:
            self._demand.set()
        self._slots.setdefault(slot, incarnation)
        self._waiting += 1
        try:
            while self._slots.get(slot) == incarnation:
                if (found := self._try_lease(slot, exclusive, avoid)) is not None:
                    return found
                await asyncio.sleep(_POLL_SECONDS)
        finally:
            self._waiting -= 1
        return ServerError("this actor was started again")  # its process is gone and gets no answer

    async def report_healthy(self, url: str) -> None:
        """Record that an endpoint answers and is the right encoder."""
        self._pool.report_healthy(url)

    async def release_lease(
        self, slot: int, incarnation: str, url: str, fault: str | None = None, eject: bool = False
    ) -> None:
        """Give a lease back, with what went wrong at the endpoint; `eject` one that is not the right encoder."""
        if self._slots.get(slot) == incarnation:
            self._leases.pop(slot, None)
        if fault is None:
            self._pool.report_healthy(url)
        elif not eject:
            if self._pool.report_failure(url, fault, time.monotonic()):
                self._messages.append(f"{url} is left alone for now: {fault}")
        elif self._pool.eject(url, fault):
            self._messages.append(f"{url} is refused: {fault}")

    async def next_status(self) -> tuple[list[str], bool]:
        """Return messages for the user as soon as there are some, and whether no endpoint answers."""
        while True:
            now = time.monotonic()
            outage = self._pool.outage_seconds(now) if self._waiting else None
            messages, self._messages = self._messages, []
            if outage is not None and outage >= _SILENT_SECONDS and now - self._last_message >= _MESSAGE_SECONDS:
                self._last_message = now
                where = ", ".join(self._pool.urls) or "a server"
                messages.append(f"waiting for {where} ({outage:.0f} s of {self._outage_timeout:g} s)...")
                return messages, True
            if messages:
                return messages, False
            await asyncio.sleep(_POLL_SECONDS)

    def _try_lease(self, slot: int, exclusive: bool, avoid: str | None) -> str | Exception | None:
        now = time.monotonic()
        if not self._opened:
            return None
        if error := self._outage(now):
            return error
        url = self._wants_exclusive.pop(slot, None) if exclusive else None
        if url is None:
            load = Counter(lease.url for other, lease in self._leases.items() if other != slot)
            url = self._pool.pick(slot, now, load, avoid)
        if url is None or url not in self._pool.urls:
            return None
        others = [lease for other, lease in self._leases.items() if lease.url == url and other != slot]
        if exclusive and others:
            self._wants_exclusive[slot] = url  # no shared lease is granted until it had its turn
            return None
        if not exclusive and (any(lease.exclusive for lease in others) or url in self._wants_exclusive.values()):
            return None
        self._leases[slot] = _Lease(url, exclusive)
        return url

    def _outage(self, now: float) -> SemscaleError | None:
        again = "and give the same command again; what is encoded is kept"
        if self._pool.exhausted:
            where, found = ", ".join(self._pool.ejected), "; ".join(self._pool.ejected.values())
            what, hint = "no clip-server is left that runs the right encoder", f"put the right server there {again}"
            return ServerError(what, where=where, found=found, hint=hint)
        outage = self._pool.outage_seconds(now)
        if outage is None or outage < self._outage_timeout:
            return None
        where, hint = ", ".join(self._pool.urls), f"bring the servers back {again}"
        found = f"no answer for {outage:.0f} s: {self._pool.faults() or 'there is no server'}"
        return ServerError("no clip-server answers any more", where=where or None, found=found, hint=hint)
