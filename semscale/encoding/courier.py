"""Brings documents to whichever endpoint answers, however often a server is lost on the way.

A document may be the reason why the server was lost: what was on the wire and not answered is tried again in parts of
about the square root of them, then one by one, with nobody else at that endpoint. One bad document among 256 is so
found at the price of four losses, where halving takes ten; every loss costs the start of a model. A document that stood
alone in a request which lost the server is tried once more, and then given up with the reason.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from semscale.access import Access
from semscale.encoding.client import EncodeClient, Encoded, ServerUnavailableError
from semscale.encoding.encoder_fingerprint import EncoderIdentity, Probe
from semscale.encoding.handshake import confirm, greet, in_one_line
from semscale.encoding.segment import Float32
from semscale.encoding.throughput import Call
from semscale.errors import SemscaleError

_GREETING_SECONDS = 60.0
_MOST_ALONE = 2
# More than so many documents of one chunk are not poison: the model is broken, or the machine.
_MOST_GIVEN_UP = 8
_MOST_LOSSES = 50


@dataclass(frozen=True)
class _Parcel:
    places: list[int]
    suspected: bool = False
    strikes: int = 0


class Courier:
    """The connections of one actor.

    Args:
        index: the actor's number; endpoint number `index` is asked first.
        life: names the actor's process to the ledger.
        identity: the encoder that every endpoint must be.
        probe: its probe's embeddings, where they are known.
        batch_size: documents per request; None adapts it.
        deadline: seconds that a server has for a call.
        access: the token to show and the authorities to trust.
    """

    def __init__(
        self,
        index: int,
        life: str,
        identity: EncoderIdentity,
        probe: Probe | None,
        batch_size: int | None,
        deadline: float,
        access: Access,
    ) -> None:
        self.index = index
        self.life = life
        self._identity = identity
        self._probe = probe
        self._batch_size = batch_size
        self._deadline = deadline
        self._access = access
        self._clients: dict[str, EncodeClient] = {}
        # endpoints that were the right encoder when they were last asked, and have not failed since
        self._known: set[str] = set()

    async def send(self, ledger: Any, contents: Sequence[Any]) -> Encoded:
        """Return what became of these documents.

        Args:
            ledger: handle of the sweep's :class:`semscale.encoding.ledger.Ledger`.
            contents: as :meth:`EncodeClient.encode` takes them.

        Raises:
            SemscaleError: no endpoint answers for longer than the ledger's patience, or none is left.
        """
        rows = np.zeros((len(contents), self._identity.dimension), dtype=np.float32)
        reasons: list[str | None] = [None] * len(contents)
        sent = losses = given_up = 0
        calls: list[Call] = []
        parcels = deque([_Parcel(list(range(len(contents))))])
        while parcels:
            parcel = parcels.popleft()
            url = await ledger.enter.remote(self.index, self.life, parcel.suspected)
            if isinstance(url, Exception):
                raise url
            greeted = parcel.suspected or url not in self._known
            begun = time.monotonic()
            encoded, lost, refused = await self._try(ledger, url, greeted, [contents[i] for i in parcel.places])
            await ledger.leave.remote(
                self.index, self.life, url, refused or (str(lost) if lost else None), bool(refused)
            )
            if encoded is not None:
                _take_over(parcel.places, encoded, rows, reasons)
                sent += encoded.sent
                calls.append(Call(url, len(parcel.places), time.monotonic() - begun))
                continue
            self._known.discard(url)
            losses += lost is not None and lost.reached
            sent += lost.sent if lost else 0
            again, reason = self._again(parcel, lost, contents)
            parcels.extendleft(reversed(again))
            if lost is not None and reason is not None:
                reasons[parcel.places[lost.unacknowledged[0]]] = reason
                given_up += 1
            if losses > _MOST_LOSSES or given_up > _MOST_GIVEN_UP:
                raise SemscaleError(
                    "the model process ends again and again",
                    where=url,
                    found=str(lost),
                    hint="its log says why; give the same command again: what is encoded is kept",
                )
        return Encoded(rows, reasons, sent, calls)

    async def _try(
        self, ledger: Any, url: str, greeted: bool, contents: Sequence[Any]
    ) -> tuple[Encoded | None, ServerUnavailableError | None, str | None]:
        """Return what came of it, or how the server was lost, or why it is refused."""
        try:
            if greeted:
                await greet(self._client(url, _GREETING_SECONDS), self._identity, self._probe)
                self._known.add(url)
                await ledger.alive.remote(url)
            client = self._client(url, self._deadline)
        except ServerUnavailableError as error:
            error.reached = False  # these documents have nothing to do with it
            return None, error, None
        except SemscaleError as error:
            return None, None, in_one_line(error)
        try:
            encoded = await client.encode(contents)
        except ServerUnavailableError as error:
            error.reached = error.reached or greeted  # it was there a moment ago
            # what did come may be of a server that took the place of another one, and nobody can be asked any more
            return None, error, None
        except SemscaleError as error:
            return None, None, in_one_line(error)
        try:
            await confirm(self._client(url, _GREETING_SECONDS), self._identity, self._probe)
        except ServerUnavailableError as error:
            error.reached, error.sent = False, encoded.sent
            return None, error, None
        except SemscaleError as error:
            return None, None, in_one_line(error)
        return encoded, None, None

    def _client(self, url: str, deadline: float) -> EncodeClient:
        deadline = min(deadline, self._deadline)
        name = f"{url} {deadline}"
        if name not in self._clients:
            identity = self._identity
            self._clients[name] = EncodeClient(
                url, self._batch_size, deadline, identity.minibatch, identity.dimension, self._access
            )
        return self._clients[name]

    def _again(
        self, parcel: _Parcel, lost: ServerUnavailableError | None, contents: Sequence[Any]
    ) -> tuple[list[_Parcel], str | None]:
        """Return what is to be sent again, and how, and why the one document that was alone is given up."""
        if lost is None or not lost.reached:
            return [parcel], None
        suspects = [parcel.places[j] for j in lost.unacknowledged]
        rest = sorted(set(parcel.places) - set(suspects))
        others = [_Parcel(rest, parcel.suspected)] if rest else []
        if len(suspects) != 1:
            size = 1 if parcel.suspected else max(1, math.isqrt(len(suspects)))
            parts = [suspects[start : start + size] for start in range(0, len(suspects), size)]
            return [*(_Parcel(part, True) for part in parts), *others], None
        if len(parcel.places) > 1:
            return [_Parcel(suspects, True), *others], None
        if parcel.strikes + 1 < _MOST_ALONE:
            return [_Parcel(suspects, True, parcel.strikes + 1)], None
        what = "text" if isinstance(contents[suspects[0]], str) else "image"
        if lost.late:
            return [], f"no answer within {self._deadline:g} s for this {what} alone"
        return [], f"the model process ended while it encoded this {what}"


def _take_over(places: Sequence[int], encoded: Encoded, rows: Float32, reasons: list[str | None]) -> None:
    for j, i in enumerate(places):
        reasons[i] = encoded.reasons[j]
        if encoded.reasons[j] is None:
            rows[i] = encoded.embeddings[j]
