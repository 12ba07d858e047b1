"""Encoder actor: reads, decodes and resizes images, sends them to clip-servers, and stores the embeddings."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray

from semscale.common.access import Access
from semscale.common.errors import ServerError
from semscale.datasets.dataset import Reader
from semscale.encoding.image_pipeline import decode_all, read_all, to_ppm
from semscale.encoding.store_backed_encoder import ChunkReport, NoEmbeddingError
from semscale.encoding.throughput import ThroughputRecord
from semscale.store.embedding_store import EmbeddingStore, Kind
from semscale.store.encoder_fingerprint import EncoderIdentity, Probe
from semscale.store.key_index import content_digest
from semscale.store.mirrored_directory import MirroredDirectory
from semscale.store.segment import write_valid_rows

if TYPE_CHECKING:
    from semscale.encoding.dispatcher import RequestDispatcher

CHUNKS_PER_ACTOR = 4
"""Chunks of an actor at a time: two are on the wire, so that no replica waits, while two are decoded."""

_SLOTS = 2
# Workers are lost for many reasons (spot machines, the memory monitor); after so many the chunk is to blame.
_MAX_PROCESSES = 6
# finished chunks whose reports are kept: Ray repeats a call whose result was lost
_KEPT_REPORTS = 4 * CHUNKS_PER_ACTOR


@dataclass(frozen=True)
class ActorSettings:
    """Settings of every encoder actor: where to store, the encoder that servers must run, and how to call them."""

    folder: MirroredDirectory
    identity: EncoderIdentity
    probe: Probe | None
    batch_size: int | None
    deadline: float
    access: Access


class EncoderActor:
    """Reads, decodes, sends and stores chunks of work; connects when there is something to send."""

    def __init__(self, index: int, settings: ActorSettings) -> None:
        self.settings = settings
        self._index = index
        self._incarnation = uuid.uuid4().hex
        # slots are numbered over all actors, and prefer different endpoints
        self._slots = list(range(index * _SLOTS, (index + 1) * _SLOTS))
        self._free: asyncio.Queue[RequestDispatcher] | None = None
        self._chunks: dict[int, asyncio.Future[ChunkReport]] = {}

    async def encode(
        self, chunk: int, coordinator: Any, items: Sequence[str], reader: Reader | None = None
    ) -> ChunkReport:
        """Encode and store a chunk of texts, or of images of a reader; a call that Ray repeats joins the first one."""
        if chunk not in self._chunks:
            self._chunks[chunk] = asyncio.ensure_future(self._encode(chunk, coordinator, items, reader))
            for old in list(self._chunks)[:-_KEPT_REPORTS]:
                del self._chunks[old]
        return await self._chunks[chunk]

    async def _encode(self, chunk: int, coordinator: Any, items: Sequence[str], reader: Reader | None) -> ChunkReport:
        processes = await coordinator.record_attempt.remote(chunk, self._slots, self._incarnation)
        if processes > _MAX_PROCESSES:
            raise worker_error(f"{_MAX_PROCESSES} processes in a row")
        kind: Kind = "text" if reader is None else "image"
        contents: Sequence[Any] = items
        reasons: dict[int, str] = {}
        if reader is not None:
            contents, reasons = await asyncio.to_thread(read_all, reader, items)
        keys = {i: content_digest(content) for i, content in enumerate(contents) if content is not None}
        granted = await coordinator.claim.remote(chunk, list(keys.values()))
        claimed = [i for i, is_granted in zip(keys, granted, strict=True) if is_granted]
        if processes > 1 and claimed:  # the previous process may have stored some
            store = await asyncio.to_thread(EmbeddingStore, self.settings.folder / kind)
            claimed = [i for i in claimed if keys[i] not in store]
        documents = {i: contents[i] for i in claimed}
        if reader is not None:
            documents, bad = await asyncio.to_thread(self._decode, contents, claimed)
            reasons.update(bad)
        sent, calls, failed = await self._send(coordinator, kind, documents, keys, reasons)
        if failed:
            raise NoEmbeddingError(kind, items[failed[0]], reasons[failed[0]])
        indices = range(len(items))
        return ChunkReport([keys.get(i) for i in indices], [reasons.get(i) for i in indices], sent, calls)

    def _decode(self, contents: Sequence[bytes | None], wanted: Sequence[int]) -> tuple[dict[int, Any], dict[int, str]]:
        identity = self.settings.identity
        pictures, bad = decode_all(contents, wanted, identity.preprocess, identity.draft)
        if identity.packed:
            return pictures, bad
        return {i: item if isinstance(item, bytes) else to_ppm(item) for i, item in pictures.items()}, bad

    async def _send(
        self,
        coordinator: Any,
        kind: Kind,
        documents: Mapping[int, Any],
        keys: Mapping[int, bytes],
        reasons: dict[int, str],
    ) -> tuple[int, tuple[ThroughputRecord, ...], list[int]]:
        """Encode and store documents, adding the reasons of failures to `reasons`.

        Returns the number sent, a record per call, and the documents with a transient failure.
        """
        if not documents:
            return 0, (), []
        if self._free is None:
            # imports jina, which takes a second and is not needed where everything is stored
            from semscale.encoding.dispatcher import RequestDispatcher

            self._free = asyncio.Queue()
            for slot in self._slots:
                self._free.put_nowait(RequestDispatcher(slot, self._incarnation, self.settings))
        dispatcher = await self._free.get()
        try:
            encoded = await dispatcher.send(coordinator, list(documents.values()))
        finally:
            self._free.put_nowait(dispatcher)
        indices = list(documents)
        reasons.update({i: reason for i, reason in zip(indices, encoded.reasons, strict=True) if reason is not None})
        folder, row_keys = self.settings.folder / kind, [keys[i] for i in indices]
        await asyncio.to_thread(write_valid_rows, folder, row_keys, encoded.embeddings, encoded.reasons)
        node = f"{ray.util.get_node_ip_address()} {ray.get_runtime_context().get_node_id()[:6]}"
        calls = [ThroughputRecord(url, node, self._index, kind, n, seconds) for url, n, seconds in encoded.calls]
        return encoded.sent, tuple(calls), [indices[i] for i in sorted(encoded.retryable)]


def worker_error(found: str) -> ServerError:
    """Return the error for a chunk whose worker processes keep crashing."""
    what = "the workers that encode this part of the dataset keep crashing"
    hint = "too little memory is the usual reason; run the same command again: what is encoded is kept"
    return ServerError(what, found=found, hint=hint)


# Ray restarts actors and repeats their chunks without a limit: until it notices that a node is lost, which takes 15 s,
# each attempt to reach an actor there fails and would be counted. The coordinator counts the processes of each chunk.
RemoteEncoder = ray.remote(max_restarts=-1, max_task_retries=-1, max_concurrency=CHUNKS_PER_ACTOR)(EncoderActor)
