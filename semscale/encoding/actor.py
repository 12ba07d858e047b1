"""The encoder actor: reads, verifies, decodes and resizes images, sends them over its connection, stores the rows."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray

from semscale.access import Access
from semscale.datasets.base import Reader
from semscale.datasets.picture import BadImageError, decode
from semscale.encoding.preprocess import can_prepare, draft_side, prepare, to_ppm, whole
from semscale.encoding.store import write_segment
from semscale.errors import SemscaleError

if TYPE_CHECKING:
    from semscale.encoding.client import EncodeClient, Encoded  # jina comes with it, which takes a while to import


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
        preprocess: open_clip's preprocessing configuration; None sends whole files.
        batch_size: rows per request; None adapts it.
        deadline: seconds that a server has for a call.
        packed: the servers take packed requests.
        draft: decode large JPEGs at reduced size.
        quantum: rows that a server computes at once.
        patience: seconds to go on trying before the sweep stops.
        access: the token to show and the authorities to trust; Ray carries it to actors on other machines.
    """

    folder: Path
    preprocess: Mapping[str, Any] | None
    batch_size: int | None
    deadline: float
    packed: bool = False
    draft: bool = False
    quantum: int = 32
    patience: float = 60.0
    access: Access | None = None


class EncoderActor:
    """Holds one clip-client connection; used through :func:`ray.remote` by :mod:`semscale.encoding.encoder`.

    It connects when it has something to send. Actor i begins with endpoint i and moves on when that fails.
    """

    def __init__(self, index: int, settings: ActorSettings) -> None:
        self.settings = settings
        self._endpoint = index
        self._urls: Sequence[str] = ()
        self._client: EncodeClient | None = None
        self._wire = asyncio.Lock()  # one call at a time on a connection, while the next chunk is being read

    async def encode_images(self, chunk: int, ledger: Any, reader: Reader, places: Sequence[str]) -> ChunkReport:
        """Bring the images at these places into the store, unless they are there or another chunk has them."""
        contents, reasons = await asyncio.to_thread(_read_all, reader, places)
        keys = [None if content is None else hashlib.sha256(content).digest() for content in contents]
        mine = await _claim(ledger, chunk, keys)
        pictures, bad = await asyncio.to_thread(self._decode_all, contents, mine)
        reasons.update(bad)
        sent = await self._encode(ledger, "image", [i for i in mine if i in pictures], pictures, keys, reasons)
        return ChunkReport(keys, [reasons.get(i) for i in range(len(places))], sent)

    async def encode_texts(self, chunk: int, ledger: Any, texts: Sequence[str]) -> ChunkReport:
        """Bring these texts into the store, unless they are there or another chunk has them."""
        keys: list[bytes | None] = [text_key(text) for text in texts]
        mine = await _claim(ledger, chunk, keys)
        reasons: dict[int, str] = {}
        sent = await self._encode(ledger, "text", mine, dict(enumerate(texts)), keys, reasons)
        return ChunkReport(keys, [reasons.get(i) for i in range(len(texts))], sent)

    def _decode_all(
        self, contents: Sequence[bytes | None], mine: Sequence[int]
    ) -> tuple[dict[int, Any], dict[int, str]]:
        spec = self.settings.preprocess
        if spec is not None and not can_prepare(spec):
            spec = None
        draft = draft_side(spec) if spec is not None and self.settings.draft else None
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
                    pictures[i] = picture if self.settings.packed else to_ppm(picture)
            except BadImageError as error:
                bad[i] = str(error)
        return pictures, bad

    async def _encode(
        self,
        ledger: Any,
        kind: str,
        mine: Sequence[int],
        contents: Mapping[int, Any],
        keys: Sequence[bytes | None],
        reasons: dict[int, str],
    ) -> int:
        if not mine:
            return 0
        async with self._wire:
            if self._client is None:
                self._urls = await ledger.endpoints.remote()
                self._client = self._connect()
            encoded = await self._send(self._client, [contents[i] for i in mine])
        good = [j for j, reason in enumerate(encoded.reasons) if reason is None]
        reasons.update({mine[j]: reason for j, reason in enumerate(encoded.reasons) if reason is not None})
        if good:
            rows = np.ascontiguousarray(encoded.embeddings[good])
            good_keys = [key for key in (keys[mine[j]] for j in good) if key is not None]
            await asyncio.to_thread(write_segment, self.settings.folder / kind, good_keys, rows)
        return encoded.sent

    async def _send(self, client: EncodeClient, contents: Any) -> Encoded:
        from semscale.encoding.client import ServerUnavailableError

        pause, waited, failures = 0.25, 0.0, 0
        while True:
            try:
                return await client.encode(contents)
            except ServerUnavailableError as error:
                failures += 1
                if waited >= self.settings.patience and failures >= len(self._urls):
                    raise SemscaleError(
                        "no clip-server answers any more",
                        where=", ".join(self._urls),
                        found=str(error),
                        hint="bring the servers back and give the same command again; what is encoded is kept",
                    ) from error
                self._endpoint += 1
                self._client = client = self._connect()
                await asyncio.sleep(pause)
                waited += pause
                pause = min(2 * pause, 8.0)

    def _connect(self) -> EncodeClient:
        from semscale.encoding.client import EncodeClient

        url = self._urls[self._endpoint % len(self._urls)]
        settings = self.settings
        return EncodeClient(url, settings.batch_size, settings.deadline, settings.quantum, settings.access)


def text_key(text: str) -> bytes:
    """Return the store's key of a text: the SHA-256 of its UTF-8 bytes."""
    return hashlib.sha256(text.encode()).digest()


async def _claim(ledger: Any, chunk: int, keys: Sequence[bytes | None]) -> list[int]:
    known = [i for i, key in enumerate(keys) if key is not None]
    granted = await ledger.claim.remote(chunk, [keys[i] for i in known])
    return [i for i, yes in zip(known, granted, strict=True) if yes]


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


# Workers come and go (spot machines, the memory monitor): the actor is started again and its chunk repeated.
RemoteEncoder = ray.remote(max_restarts=3, max_task_retries=3, max_concurrency=2)(EncoderActor)
