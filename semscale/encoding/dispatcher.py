"""Request dispatcher: sends documents to some healthy endpoint, fails over, and isolates what crashes a server.

What was on the wire when a server was lost and not answered is tried again in parts of about the square root of it,
then one by one, each with an exclusive lease. One bad document among 256 is so found at the price of four losses, where
halving takes ten; every loss costs the start of a model. A document that was alone in a request which lost the server
is tried once more, and then given up with the reason.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from semscale.common.errors import SemscaleError, ServerError
from semscale.encoding.client import EncodeClient, Encoded, ServerUnavailableError
from semscale.encoding.verification import in_one_line, verify_endpoint

if TYPE_CHECKING:
    from semscale.encoding.encoder_actor import ActorSettings

_MAX_ATTEMPTS = 2
# More than so many documents of one chunk are not poison: the model is broken, or the machine.
_MAX_GIVEN_UP = 8
_MAX_LOSSES = 50
# pauses before what has failed and may pass is sent again; after that it stops the encoding
_PAUSES = (0.5, 2.0)


@dataclass(frozen=True)
class _Batch:
    indices: list[int]
    suspect: bool = False
    attempts: int = 0
    # failures that may pass, and the endpoint of the last one
    failures: int = 0
    avoid: str | None = None


class RequestDispatcher:
    """Sends one chunk at a time from a slot of an actor, to the endpoints that the coordinator leases to it."""

    def __init__(self, slot: int, incarnation: str, settings: ActorSettings) -> None:
        self._lease = slot, incarnation
        self._settings = settings
        self._clients: dict[str, EncodeClient] = {}
        # endpoints that were the right encoder when they were last asked, and have not failed since
        self._verified: set[str] = set()

    async def send(self, coordinator: Any, contents: Sequence[Any]) -> Encoded:
        """Encode documents as :meth:`EncodeClient.encode` does; SemscaleError if no endpoint is left to do it.

        What stays `unsure` has failed several times, at several endpoints where there are some.
        """
        settings = self._settings
        rows = np.zeros((len(contents), settings.identity.dimension), dtype=np.float32)
        result = Encoded(rows, [None] * len(contents), 0)
        losses = given_up = 0
        batches = deque([_Batch(list(range(len(contents))))])
        while batches:
            batch = batches.popleft()
            url = await coordinator.acquire_lease.remote(*self._lease, batch.suspect, batch.avoid)
            if isinstance(url, Exception):
                raise url
            begun, sending, encoded = time.monotonic(), False, None
            verify = batch.suspect or url not in self._verified
            try:
                client = self._client(url)
                if verify:
                    await verify_endpoint(client, settings.identity, settings.probe)
                    self._verified.add(url)
                    await coordinator.report_healthy.remote(url)
                sending = True
                encoded = await client.encode([contents[i] for i in batch.indices])
                sending = False
                # another server may have taken its place
                await verify_endpoint(client, settings.identity, settings.probe, again=True)
            except SemscaleError as error:
                await coordinator.release_lease.remote(*self._lease, url, in_one_line(error), eject=True)
                self._verified.discard(url)
                batches.appendleft(batch)
                continue
            except ServerUnavailableError as error:
                await coordinator.release_lease.remote(*self._lease, url, str(error))
                self._verified.discard(url)
                result.sent += error.sent if sending else encoded.sent if encoded else 0
                if not (sending and (error.reached or verify)):  # the documents have nothing to do with it
                    batches.appendleft(batch)
                    continue
                losses += 1
                again, reason = self._split_for_retry(batch, error, contents)
                batches.extendleft(reversed(again))
                if reason is not None:
                    i = batch.indices[error.unacknowledged[0]]
                    result.reasons[i] = reason
                    if error.late:
                        result.unsure.add(i)
                    given_up += 1
                if losses > _MAX_LOSSES or given_up > _MAX_GIVEN_UP:
                    what = "the model process ends again and again"
                    hint = "its log says why; give the same command again: what is encoded is kept"
                    raise ServerError(what, where=url, found=str(error), hint=hint) from error
                continue
            await coordinator.release_lease.remote(*self._lease, url)
            result.sent += encoded.sent
            result.calls.append((url, len(batch.indices), time.monotonic() - begun))
            for j, i in enumerate(batch.indices):
                result.reasons[i] = encoded.reasons[j]
                if encoded.reasons[j] is None:
                    rows[i] = encoded.embeddings[j]
            if unsure := [batch.indices[j] for j in sorted(encoded.unsure)]:
                if batch.failures == len(_PAUSES):
                    result.unsure.update(unsure)
                    continue
                await asyncio.sleep(_PAUSES[batch.failures])
                batches.append(_Batch(unsure, failures=batch.failures + 1, avoid=url))
        return result

    def _client(self, url: str) -> EncodeClient:
        if url not in self._clients:
            how, identity = self._settings, self._settings.identity
            self._clients[url] = EncodeClient(
                url, how.batch_size, how.deadline, identity.minibatch, identity.dimension, how.access
            )
        return self._clients[url]

    def _split_for_retry(
        self, batch: _Batch, lost: ServerUnavailableError, contents: Sequence[Any]
    ) -> tuple[list[_Batch], str | None]:
        """Return what is to be sent again, and why the one document that was alone is given up."""
        suspects = [batch.indices[j] for j in lost.unacknowledged]
        rest = sorted(set(batch.indices) - set(suspects))
        others = [_Batch(rest, batch.suspect)] if rest else []
        if len(suspects) != 1:
            size = 1 if batch.suspect else max(1, math.isqrt(len(suspects)))
            parts = [suspects[start : start + size] for start in range(0, len(suspects), size)]
            return [*(_Batch(part, True) for part in parts), *others], None
        if len(batch.indices) > 1:
            return [_Batch(suspects, True), *others], None
        if batch.attempts + 1 < _MAX_ATTEMPTS:
            return [_Batch(suspects, True, batch.attempts + 1)], None
        what = "text" if isinstance(contents[suspects[0]], str) else "image"
        if lost.late:
            return [], f"no answer within {self._settings.deadline:g} s for this {what} alone"
        return [], f"the model process ended while it encoded this {what}"
