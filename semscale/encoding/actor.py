"""The encoder actor: reads, verifies, decodes and resizes images, sends them over its connection, stores the rows."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import ray

from semscale.access import Access
from semscale.datasets.base import Reader
from semscale.datasets.picture import BadImageError, decode
from semscale.encoding.folder import Folder
from semscale.encoding.identity import EncoderIdentity, Probe
from semscale.encoding.preprocess import can_prepare, draft_side, prepare, to_ppm, whole
from semscale.encoding.segment import write_segment
from semscale.encoding.store import EmbeddingStore, Kind

if TYPE_CHECKING:
    from semscale.encoding.courier import Courier  # jina comes with it, which takes a while to import

CHUNKS = 4
"""How many chunks an actor has at a time: two on the wire, so that no replica waits for the next; two being decoded."""

_LANES = 2


@dataclass(frozen=True)
class ChunkReport:
    """What became of a chunk of images or texts.

    Attributes:
        keys: per item the SHA-256 of its content; None where it could not be read.
        reasons: per item None, or why it is not in the store.
        sent: how many documents went over the wire.
    """

    keys: list[bytes | None]
    reasons: list[str | None]
    sent: int


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
    """

    folder: Folder
    identity: EncoderIdentity
    probe: Probe | None
    batch_size: int | None
    deadline: float
    access: Access


class EncoderActor:
    """Holds one clip-client connection; used through :func:`ray.remote` by :mod:`semscale.encoding.encoder`.

    It connects when it has something to send, to an endpoint of its own as long as that answers, and else to others.
    """

    def __init__(self, index: int, settings: ActorSettings) -> None:
        self.settings = settings
        self._life = uuid.uuid4().hex
        self._greeting: asyncio.Future[Any] | None = None
        # to the ledger a lane is an actor of its own, which prefers an endpoint of its own
        self._lanes = range(index * _LANES, (index + 1) * _LANES)
        self._couriers: dict[int, Courier] = {}
        self._free: asyncio.Queue[int] = asyncio.Queue()
        for lane in self._lanes:
            self._free.put_nowait(lane)
        # chunks that an earlier process of this actor, which was killed, may have stored already
        revived = ray.is_initialized() and ray.get_runtime_context().was_current_actor_reconstructed
        self._doubtful = CHUNKS if revived else 0

    async def encode_images(self, chunk: int, ledger: Any, reader: Reader, places: Sequence[str]) -> ChunkReport:
        """Bring the images at these places into the store, unless they are there or another chunk has them."""
        contents, reasons = await asyncio.to_thread(_read_all, reader, places)
        keys = [None if content is None else hashlib.sha256(content).digest() for content in contents]
        mine = await self._claim(ledger, chunk, keys)
        pictures, bad = await asyncio.to_thread(self._decode_all, contents, mine)
        reasons.update(bad)
        sent = await self._encode(ledger, "image", [i for i in mine if i in pictures], pictures, keys, reasons)
        return ChunkReport(keys, [reasons.get(i) for i in range(len(places))], sent)

    async def encode_texts(self, chunk: int, ledger: Any, texts: Sequence[str]) -> ChunkReport:
        """Bring these texts into the store, unless they are there or another chunk has them."""
        keys: list[bytes | None] = [text_key(text) for text in texts]
        mine = await self._claim(ledger, chunk, keys)
        reasons: dict[int, str] = {}
        sent = await self._encode(ledger, "text", mine, dict(enumerate(texts)), keys, reasons)
        return ChunkReport(keys, [reasons.get(i) for i in range(len(texts))], sent)

    def _decode_all(
        self, contents: Sequence[bytes | None], mine: Sequence[int]
    ) -> tuple[dict[int, Any], dict[int, str]]:
        identity = self.settings.identity
        spec = identity.preprocess
        if spec is not None and not can_prepare(spec):
            spec = None
        draft = draft_side(spec) if spec is not None and identity.draft else None
        pictures: dict[int, Any] = {}
        bad: dict[int, str] = {}
        for i in mine:
            content = contents[i]
            assert content is not None  # only read files are claimed
            try:
                image = decode(content, draft)
                if spec is None:
                    pictures[i] = whole(image, content)
                else:
                    picture = prepare(image, spec)
                    pictures[i] = picture if identity.packed else to_ppm(picture)
            except BadImageError as error:
                bad[i] = str(error)
        return pictures, bad

    async def _encode(
        self,
        ledger: Any,
        kind: Kind,
        mine: Sequence[int],
        contents: Mapping[int, Any],
        keys: Sequence[bytes | None],
        reasons: dict[int, str],
    ) -> int:
        mine = await self._not_stored(kind, mine, keys)
        if not mine:
            return 0
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
        return encoded.sent

    def _new_courier(self, lane: int) -> Courier:
        from semscale.encoding.courier import Courier

        told = self.settings
        return Courier(lane, self._life, told.identity, told.probe, told.batch_size, told.deadline, told.access)

    async def _claim(self, ledger: Any, chunk: int, keys: Sequence[bytes | None]) -> list[int]:
        if self._greeting is None:
            self._greeting = asyncio.gather(*(ledger.hello.remote(lane, self._life) for lane in self._lanes))
        await self._greeting
        known = [i for i, key in enumerate(keys) if key is not None]
        granted = await ledger.claim.remote(chunk, [keys[i] for i in known])
        return [i for i, yes in zip(known, granted, strict=True) if yes]

    async def _not_stored(self, kind: Kind, mine: Sequence[int], keys: Sequence[bytes | None]) -> Sequence[int]:
        if not self._doubtful:
            return mine
        self._doubtful -= 1
        store = await asyncio.to_thread(EmbeddingStore, self.settings.folder / kind)
        return [i for i in mine if (key := keys[i]) is not None and key not in store]


def text_key(text: str) -> bytes:
    """Return the store's key of a text: the SHA-256 of its UTF-8 bytes."""
    return hashlib.sha256(text.encode()).digest()


def _read_all(reader: Reader, places: Sequence[str]) -> tuple[list[bytes | None], dict[int, str]]:
    def read(place: str) -> bytes | str:
        try:
            return reader.read(place)
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"

    parallel = getattr(reader, "parallel", 1)
    if parallel > 1:
        with ThreadPoolExecutor(parallel) as threads:
            found = list(threads.map(read, places))
    else:
        found = [read(place) for place in places]
    contents = [one if isinstance(one, bytes) else None for one in found]
    return contents, {i: one for i, one in enumerate(found) if isinstance(one, str)}


# Workers come and go (spot machines, the memory monitor): the actor is started again and its chunk repeated. However
# often that happens in a long sweep, a chunk that has cost so many processes is at fault itself.
RemoteEncoder = ray.remote(max_restarts=-1, max_task_retries=5, max_concurrency=CHUNKS)(EncoderActor)
