"""Encoder actor: reads, verifies, decodes and resizes images, sends them to clip-servers, and stores the rows."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray

from semscale.common.access import Access
from semscale.common.errors import SemscaleError, ServerError
from semscale.datasets.base import Reader
from semscale.encoding.image_pipeline import decode_all, read_all, to_ppm
from semscale.encoding.store_backed_encoder import ChunkReport, NoEmbeddingError
from semscale.encoding.throughput import ThroughputRecord
from semscale.store.embedding_store import EmbeddingStore, Kind
from semscale.store.encoder_fingerprint import EncoderIdentity, Probe
from semscale.store.key_index import content_digest
from semscale.store.mirrored_directory import MirroredDirectory
from semscale.store.segment import write_good

if TYPE_CHECKING:
    from semscale.encoding.dispatcher import RequestDispatcher

CHUNKS = 4
"""How many chunks an actor has at a time: two on the wire, so that no replica waits for the next; two being decoded."""

_SLOTS = 2
# Workers come and go (spot machines, the memory monitor). A chunk that has cost so many processes is at fault itself.
_MAX_PROCESSES = 6
# an answer may be lost on its way to the driver, which then asks again
_REMEMBERED = 4 * CHUNKS


@dataclass(frozen=True)
class ActorSettings:
    """Settings of every encoder actor: where it stores, the encoder that every server must be, and how to call it."""

    folder: MirroredDirectory
    identity: EncoderIdentity
    probe: Probe | None
    batch_size: int | None
    deadline: float
    access: Access


class EncoderActor:
    """Reads, decodes, sends and stores chunks of work; it connects when there is something to send."""

    def __init__(self, index: int, settings: ActorSettings) -> None:
        self.settings = settings
        self._index = index
        self._incarnation = uuid.uuid4().hex
        # a connection slot has its number among those of all actors, and prefers an endpoint of its own
        self._slots = list(range(index * _SLOTS, (index + 1) * _SLOTS))
        self._free: asyncio.Queue[RequestDispatcher] | None = None
        self._chunks: dict[int, asyncio.Future[ChunkReport]] = {}

    async def encode(
        self, chunk: int, coordinator: Any, items: Sequence[str], reader: Reader | None = None
    ) -> ChunkReport:
        """Bring a chunk of texts, or of images of a reader, into the store; a call that Ray repeats waits."""
        if chunk not in self._chunks:
            self._chunks[chunk] = asyncio.ensure_future(self._encode(chunk, coordinator, items, reader))
            for old in list(self._chunks)[:-_REMEMBERED]:
                del self._chunks[old]
        return await self._chunks[chunk]

    async def _encode(self, chunk: int, coordinator: Any, items: Sequence[str], reader: Reader | None) -> ChunkReport:
        processes = await coordinator.begin.remote(chunk, self._slots, self._incarnation)
        if processes > _MAX_PROCESSES:
            raise workers_end(f"{_MAX_PROCESSES} processes in a row")
        kind: Kind = "text" if reader is None else "image"
        contents: Sequence[Any] = items
        reasons: dict[int, str] = {}
        if reader is not None:
            contents, reasons = await asyncio.to_thread(read_all, reader, items)
        keys = {i: content_digest(content) for i, content in enumerate(contents) if content is not None}
        granted = await coordinator.claim.remote(chunk, list(keys.values()))
        mine = [i for i, claimed in zip(keys, granted, strict=True) if claimed]
        if processes > 1 and mine:  # the process that is lost may have stored some
            store = await asyncio.to_thread(EmbeddingStore, self.settings.folder / kind)
            mine = [i for i in mine if keys[i] not in store]
        documents = {i: contents[i] for i in mine}
        if reader is not None:
            documents, bad = await asyncio.to_thread(self._decode, contents, mine)
            reasons.update(bad)
        sent, work, unsure = await self._send(coordinator, kind, documents, keys, reasons) if documents else (0, (), [])
        if unsure:
            raise NoEmbeddingError(kind, items[unsure[0]], reasons[unsure[0]])
        n = range(len(items))
        return ChunkReport([keys.get(i) for i in n], [reasons.get(i) for i in n], sent, work)

    def _decode(self, contents: Sequence[bytes | None], mine: Sequence[int]) -> tuple[dict[int, Any], dict[int, str]]:
        identity = self.settings.identity
        pictures, bad = decode_all(contents, mine, identity.preprocess, identity.draft)
        if identity.packed:
            return pictures, bad
        return {i: one if isinstance(one, bytes) else to_ppm(one) for i, one in pictures.items()}, bad

    async def _send(
        self,
        coordinator: Any,
        kind: Kind,
        documents: Mapping[int, Any],
        keys: Mapping[int, bytes],
        reasons: dict[int, str],
    ) -> tuple[int, tuple[ThroughputRecord, ...], list[int]]:
        """Encode and store documents, and add why some failed to `reasons`.

        Returns how many were sent, and where, and whose reason may pass.
        """
        if self._free is None:
            # jina comes with it, which takes a second to import, and is not needed where everything is stored
            from semscale.encoding.dispatcher import RequestDispatcher

            self._free = asyncio.Queue()
            for slot in self._slots:
                self._free.put_nowait(RequestDispatcher(slot, self._incarnation, self.settings))
        dispatcher = await self._free.get()
        try:
            encoded = await dispatcher.send(coordinator, list(documents.values()))
        finally:
            self._free.put_nowait(dispatcher)
        numbers = list(documents)
        reasons.update({i: why for i, why in zip(numbers, encoded.reasons, strict=True) if why is not None})
        folder, stored = self.settings.folder / kind, [keys[i] for i in numbers]
        await asyncio.to_thread(write_good, folder, stored, encoded.embeddings, encoded.reasons)
        node = f"{ray.util.get_node_ip_address()} {ray.get_runtime_context().get_node_id()[:6]}"
        work = [ThroughputRecord(url, node, self._index, kind, count, seconds) for url, count, seconds in encoded.calls]
        return encoded.sent, tuple(work), [numbers[i] for i in sorted(encoded.unsure)]


def workers_end(found: str) -> SemscaleError:
    """Return the error for a chunk whose worker processes end again and again."""
    what = "the workers that encode this part of the dataset end again and again"
    hint = "too little memory is the usual reason; give the same command again: what is encoded is kept"
    return ServerError(what, found=found, hint=hint)


# However often workers and nodes are lost, the actor is started again and its chunks are repeated. Until Ray notices
# that a node is gone, which takes it a quarter of a minute, every attempt to reach an actor there fails and would be
# counted: so the limit is set by what a chunk has cost, in the coordinator.
RemoteEncoder = ray.remote(max_restarts=-1, max_task_retries=-1, max_concurrency=CHUNKS)(EncoderActor)
