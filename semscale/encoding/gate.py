"""The actors' way to the endpoints: who sends where, who is alone there, and what the driver is to hear of it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from semscale.encoding.roster import Roster
from semscale.errors import SemscaleError

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
