"""The encoder actor: reads, verifies, decodes and resizes images, sends them over its connection, stores the rows."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import ray

from semscale.access import Access
from semscale.datasets.base import Reader
from semscale.encoding.encoder import ChunkReport
from semscale.encoding.encoder_fingerprint import EncoderIdentity, Probe
from semscale.encoding.folder import Folder
from semscale.encoding.image_pipeline import decode_all, read_all, to_ppm
from semscale.encoding.key_index import text_digest
from semscale.encoding.segment import write_segment
from semscale.encoding.store import EmbeddingStore, Kind
from semscale.encoding.throughput import Work
from semscale.errors import SemscaleError

if TYPE_CHECKING:
    from semscale.encoding.courier import Courier  # jina comes with it, which takes a while to import

CHUNKS = 4
"""How many chunks an actor has at a time: two on the wire, so that no replica waits for the next; two being decoded."""

_LANES = 2
_COURIER = "semscale.encoding.courier"
# Workers come and go (spot machines, the memory monitor). A chunk that has cost so many processes is at fault itself.
_MOST_PROCESSES = 6
# an answer may be lost on its way to the driver, which then asks again
_REMEMBERED = 4 * CHUNKS


@dataclass(frozen=True)
class ActorSettings:
    """What every encoder actor of a sweep is told.

    Attributes:
        folder: the store's folder of this encoder.
        identity: the encoder that every server must be.
        probe: its probe's embeddings, where they are known.
        batch_size: rows per request; None adapts it.
        deadline: seconds that a server has for a call.
        access: the token to show and the authorities to trust; Ray carries it to actors on other machines.
        fresh: whether the store is empty, so that there will be something to send at once.
    """

    folder: Folder
    identity: EncoderIdentity
    probe: Probe | None
    batch_size: int | None
    deadline: float
    access: Access
    fresh: bool = False


class EncoderActor:
    """Holds one clip-client connection; used through :func:`ray.remote` by :mod:`semscale.encoding.pool`.

    It connects when it has something to send, to an endpoint of its own as long as that answers, and else to others.
    """

    def __init__(self, index: int, settings: ActorSettings) -> None:
        self.settings = settings
        self._index = index
        self._life = uuid.uuid4().hex
        self._greeting: asyncio.Future[Any] | None = None
        # to the ledger a lane is an actor of its own, which prefers an endpoint of its own
        self._lanes = range(index * _LANES, (index + 1) * _LANES)
        self._couriers: dict[int, Courier] = {}
        self._free: asyncio.Queue[int] = asyncio.Queue()
        for lane in self._lanes:
            self._free.put_nowait(lane)
        if settings.fresh:  # jina is imported while the first pictures are read
            Thread(target=importlib.import_module, args=(_COURIER,), daemon=True).start()
        self._chunks: dict[int, asyncio.Future[ChunkReport]] = {}

    async def encode_images(self, chunk: int, ledger: Any, reader: Reader, places: Sequence[str]) -> ChunkReport:
        """Bring the images at these places into the store, unless they are there or another chunk has them."""
        return await self._once(chunk, lambda: self._encode_images(chunk, ledger, reader, places))

    async def encode_texts(self, chunk: int, ledger: Any, texts: Sequence[str]) -> ChunkReport:
        """Bring these texts into the store, unless they are there or another chunk has them."""
        return await self._once(chunk, lambda: self._encode_texts(chunk, ledger, texts))

    async def _once(self, chunk: int, work: Callable[[], Coroutine[Any, Any, ChunkReport]]) -> ChunkReport:
        """Do the work of a chunk, or wait for what does it already: Ray repeats a call whose connection was lost."""
        if chunk not in self._chunks:
            self._chunks[chunk] = asyncio.ensure_future(work())
            for old in list(self._chunks)[:-_REMEMBERED]:
                del self._chunks[old]
        return await self._chunks[chunk]

    async def _encode_images(self, chunk: int, ledger: Any, reader: Reader, places: Sequence[str]) -> ChunkReport:
        again = await self._begin(ledger, chunk)
        contents, reasons = await asyncio.to_thread(read_all, reader, places)
        keys = [None if content is None else hashlib.sha256(content).digest() for content in contents]
        mine = await self._claim(ledger, "image", chunk, keys, again)
        pictures, bad = await asyncio.to_thread(self._decode, contents, mine)
        reasons.update(bad)
        done = await self._encode(ledger, "image", [i for i in mine if i in pictures], pictures, keys, reasons)
        return ChunkReport(keys, [reasons.get(i) for i in range(len(places))], *done)

    async def _encode_texts(self, chunk: int, ledger: Any, texts: Sequence[str]) -> ChunkReport:
        again = await self._begin(ledger, chunk)
        keys: list[bytes | None] = [text_digest(text) for text in texts]
        mine = await self._claim(ledger, "text", chunk, keys, again)
        reasons: dict[int, str] = {}
        done = await self._encode(ledger, "text", mine, dict(enumerate(texts)), keys, reasons)
        return ChunkReport(keys, [reasons.get(i) for i in range(len(texts))], *done)

    def _decode(self, contents: Sequence[bytes | None], mine: Sequence[int]) -> tuple[dict[int, Any], dict[int, str]]:
        identity = self.settings.identity
        pictures, bad = decode_all(contents, mine, identity.preprocess, identity.draft)
        if identity.packed:
            return pictures, bad
        return {i: one if isinstance(one, bytes) else to_ppm(one) for i, one in pictures.items()}, bad

    async def _encode(
        self,
        ledger: Any,
        kind: Kind,
        mine: Sequence[int],
        contents: Mapping[int, Any],
        keys: Sequence[bytes | None],
        reasons: dict[int, str],
    ) -> tuple[int, tuple[Work, ...]]:
        if not mine:
            return 0, ()
        lane = await self._free.get()
        try:
            if lane not in self._couriers:
                self._couriers[lane] = self._new_courier(lane)
            encoded = await self._couriers[lane].send(ledger, [contents[i] for i in mine])
        finally:
            self._free.put_nowait(lane)
        good = [j for j, reason in enumerate(encoded.reasons) if reason is None]
        reasons.update({mine[j]: reason for j, reason in enumerate(encoded.reasons) if reason is not None})
        if good:
            rows = np.ascontiguousarray(encoded.embeddings[good])
            good_keys = [key for key in (keys[mine[j]] for j in good) if key is not None]
            await asyncio.to_thread(write_segment, self.settings.folder / kind, good_keys, rows)
        node, index = _node(), self._index
        work = [Work(call.endpoint, node, index, kind, call.documents, call.seconds) for call in encoded.calls]
        return encoded.sent, tuple(work)

    def _new_courier(self, lane: int) -> Courier:
        from semscale.encoding.courier import Courier

        told = self.settings
        return Courier(lane, self._life, told.identity, told.probe, told.batch_size, told.deadline, told.access)

    async def _begin(self, ledger: Any, chunk: int) -> bool:
        """Return whether an earlier process, which is lost, had this chunk and may have stored some of it."""
        if self._greeting is None:
            self._greeting = asyncio.gather(*(ledger.hello.remote(lane, self._life) for lane in self._lanes))
        await self._greeting
        processes: int = await ledger.begin.remote(chunk, self._life)
        if processes > _MOST_PROCESSES:
            raise SemscaleError(
                "the workers that encode this part of the dataset end again and again",
                found=f"{_MOST_PROCESSES} processes in a row",
                hint="too little memory is the usual reason; give the same command again: what is encoded is kept",
            )
        return processes > 1

    async def _claim(
        self, ledger: Any, kind: Kind, chunk: int, keys: Sequence[bytes | None], again: bool
    ) -> Sequence[int]:
        known = [i for i, key in enumerate(keys) if key is not None]
        granted = await ledger.claim.remote(chunk, [keys[i] for i in known])
        mine = [i for i, yes in zip(known, granted, strict=True) if yes]
        if not (again and mine):
            return mine
        store = await asyncio.to_thread(EmbeddingStore, self.settings.folder / kind)
        return [i for i in mine if (key := keys[i]) is not None and key not in store]


def _node() -> str:
    node_id: str = ray.get_runtime_context().get_node_id()
    return f"{ray.util.get_node_ip_address()} {node_id[:6]}"


# However often workers and nodes are lost, the actor is started again and its chunks are repeated. Until Ray notices
# that a node is gone, which takes it a quarter of a minute, every attempt to reach an actor there fails and would be
# counted: so the limit is set by what a chunk has cost, in the ledger.
RemoteEncoder = ray.remote(max_restarts=-1, max_task_retries=-1, max_concurrency=CHUNKS)(EncoderActor)
