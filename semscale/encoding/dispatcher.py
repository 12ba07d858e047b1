"""Request dispatcher with failover and isolation of poison messages, documents that crash a server.

The n documents that were unacknowledged when a server was lost are suspects. They are sent again in batches of about
the square root of n, then one by one, always with an exclusive lease, so that no other document is blamed. One bad
document among 256 is found after four losses, where halving takes ten; every loss costs the start of a model. A
document that was alone when the server was lost is sent once more, and then given up with the reason.
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
from semscale.encoding.client import RETRY_PAUSES, EncodeClient, Encoded, ServerUnavailableError
from semscale.encoding.verification import short_message, verify_endpoint

if TYPE_CHECKING:
    from semscale.encoding.encoder_actor import ActorSettings

_MAX_ATTEMPTS = 2  # of a document alone
# If a chunk has more of them, they are not poison: the model is broken, or the machine.
_MAX_GIVEN_UP = 8
_MAX_LOSSES = 50


@dataclass(frozen=True)
class _Batch:
    indices: list[int]
    suspect: bool = False  # may crash the server
    attempts: int = 0  # of a document alone
    failures: int = 0  # transient ones
    avoid: str | None = None  # the endpoint of the last transient failure


class RequestDispatcher:
    """Sends the chunks of one connection slot of an actor to the endpoints that the coordinator leases to it."""

    def __init__(self, slot: int, incarnation: str, settings: ActorSettings) -> None:
        self._slot = slot, incarnation
        self._settings = settings
        self._clients: dict[str, EncodeClient] = {}
        # endpoints that were the right encoder and have not failed since
        self._verified: set[str] = set()

    async def send(self, coordinator: Any, contents: Sequence[Any]) -> Encoded:
        """Encode documents as :meth:`EncodeClient.encode` does, with failover.

        Raises ServerError if no endpoint is available or the model keeps crashing.
        """
        settings = self._settings
        rows = np.zeros((len(contents), settings.identity.dimension), dtype=np.float32)
        result = Encoded(rows, [None] * len(contents), 0)
        n_losses = n_given_up = 0
        batches = deque([_Batch(list(range(len(contents))))])
        while batches:
            batch = batches.popleft()
            url = await coordinator.acquire_lease.remote(*self._slot, batch.suspect, batch.avoid)
            if isinstance(url, Exception):
                raise url
            start_time, sending, encoded = time.monotonic(), False, None
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
                # another server may have taken over the address
                await verify_endpoint(client, settings.identity, settings.probe, quick=True)
            except SemscaleError as error:
                await coordinator.release_lease.remote(*self._slot, url, short_message(error), eject=True)
                self._verified.discard(url)
                batches.appendleft(batch)
                continue
            except ServerUnavailableError as error:
                await coordinator.release_lease.remote(*self._slot, url, str(error))
                self._verified.discard(url)
                result.sent += error.sent if sending else encoded.sent if encoded else 0
                if not (sending and (error.reached or verify)):  # the documents did not cause it
                    batches.appendleft(batch)
                    continue
                n_losses += 1
                retries, reason = self._split_for_retry(batch, error, contents)
                batches.extendleft(reversed(retries))
                if reason is not None:
                    i = batch.indices[error.unacknowledged[0]]
                    result.reasons[i] = reason
                    if error.timed_out:
                        result.retryable.add(i)
                    n_given_up += 1
                if n_losses > _MAX_LOSSES or n_given_up > _MAX_GIVEN_UP:
                    what = "the model process keeps crashing"
                    hint = "see its log; run the same command again: what is encoded is kept"
                    raise ServerError(what, where=url, found=str(error), hint=hint) from error
                continue
            await coordinator.release_lease.remote(*self._slot, url)
            result.sent += encoded.sent
            result.calls.append((url, len(batch.indices), time.monotonic() - start_time))
            for j, i in enumerate(batch.indices):
                result.reasons[i] = encoded.reasons[j]
                if encoded.reasons[j] is None:
                    rows[i] = encoded.embeddings[j]
            if failed := [batch.indices[j] for j in sorted(encoded.retryable)]:
                if batch.failures == len(RETRY_PAUSES):
                    result.retryable.update(failed)
                    continue
                await asyncio.sleep(RETRY_PAUSES[batch.failures])
                batches.append(_Batch(failed, failures=batch.failures + 1, avoid=url))
        return result

    def _client(self, url: str) -> EncodeClient:
        if url not in self._clients:
            settings, identity = self._settings, self._settings.identity
            self._clients[url] = EncodeClient(
                url, settings.batch_size, settings.deadline, identity.minibatch, identity.dimension, settings.access
            )
        return self._clients[url]

    def _split_for_retry(
        self, batch: _Batch, loss: ServerUnavailableError, contents: Sequence[Any]
    ) -> tuple[list[_Batch], str | None]:
        """Return the batches to send again, and the reason if the document that was alone is given up."""
        suspects = [batch.indices[j] for j in loss.unacknowledged]
        acknowledged = sorted(set(batch.indices) - set(suspects))
        others = [_Batch(acknowledged, batch.suspect)] if acknowledged else []
        if len(suspects) != 1:
            size = 1 if batch.suspect else max(1, math.isqrt(len(suspects)))
            parts = [suspects[start : start + size] for start in range(0, len(suspects), size)]
            return [*(_Batch(part, True) for part in parts), *others], None
        if len(batch.indices) > 1:
            return [_Batch(suspects, True), *others], None
        if batch.attempts + 1 < _MAX_ATTEMPTS:
            return [_Batch(suspects, True, batch.attempts + 1)], None
        kind = "text" if isinstance(contents[suspects[0]], str) else "image"
        if loss.timed_out:
            return [], f"no answer within {self._settings.deadline:g} s for this {kind} alone"
        return [], f"the model process ended while it encoded this {kind}"
