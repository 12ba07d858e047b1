"""Encoding on the driver's side: a pool of encoder actors that pull chunks until everything is in the store."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import ray

from semscale.datasets.base import Dataset
from semscale.encoding.actor import ActorSettings, ChunkReport, RemoteEncoder, text_key
from semscale.encoding.handshake import EncoderIdentity
from semscale.encoding.ledger import Ledger
from semscale.encoding.store import EmbeddingStore, Float32
from semscale.errors import SemscaleError

Progress = Callable[[int, int], None]

_BATCH = 64
# Two to eight requests in one call keep all replicas busy; more only costs memory.
_REQUESTS_PER_CHUNK = 4
# One chunk on the wire, one being read and decoded.
_CHUNKS_PER_ACTOR = 2


@dataclass(frozen=True)
class EncodedImages:
    """The images of a dataset that are in the store, and those that cannot be used.

    Attributes:
        positions: indices into the dataset's samples, ascending.
        keys: per position the SHA-256 of the image file.
        quarantine: file -> reason for all other samples.
        sent: documents sent to the servers on this occasion.
    """

    positions: list[int]
    keys: list[bytes]
    quarantine: dict[str, str]
    sent: int


class Encoder:
    """Encodes images and texts once each, through Ray actors that hold clip-client connections.

    Args:
        identity: the encoder behind the endpoints, from :func:`semscale.encoding.handshake.shake_hands`.
        urls: the endpoints.
        store: root of the embedding store.
        actors: number of actors; two per endpoint unless given.
        batch_size: images or texts per request; None adapts it to the servers.
        deadline: seconds that a server has to answer.

    Use as a context manager: the actors end with it. Ray must be initialised.
    """

    def __init__(
        self,
        identity: EncoderIdentity,
        urls: Sequence[str],
        store: Path,
        *,
        actors: int | None = None,
        batch_size: int | None = None,
        deadline: float = 120.0,
    ) -> None:
        self.identity = identity
        self.batch_size = batch_size or _BATCH
        self._folder = store / identity.fingerprint
        self._stores = {kind: EmbeddingStore(self._folder / kind) for kind in ("image", "text")}
        self._chunk = 0
        self._running: dict[Any, tuple[Any, range]] = {}
        self._ledger = ray.remote(num_cpus=0)(Ledger).remote(*(store.keys() for store in self._stores.values()))
        settings = ActorSettings(
            tuple(urls),
            self._folder,
            identity.preprocess,
            batch_size,
            deadline,
            packed=identity.packed,
            draft=identity.draft,
            quantum=identity.minibatch,
        )
        count = actors or 2 * len(urls)
        # Half a CPU each while they live (decoding needs it, waiting for the server does not), and never more than
        # half the cluster, or actors that find no place would be waited for.
        cpus = min(0.5, float(ray.cluster_resources().get("CPU", 1.0)) / (2 * count))
        self._actors = [RemoteEncoder.options(num_cpus=cpus).remote(index, settings) for index in range(count)]

    def __enter__(self) -> Encoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the actors at once; what they stored stays."""
        for task in self._running:  # amid their work after a fault: without this Ray would announce retries
            ray.cancel(task)
        for actor in [*self._actors, self._ledger]:
            ray.kill(actor)
        self._actors = []

    def encode_images(self, dataset: Dataset, progress: Progress | None = None) -> EncodedImages:
        """Bring all images of a dataset into the store.

        Raises:
            SemscaleError: no server answers, or not one image could be used.
        """
        files = [sample.file for sample in dataset.samples]
        reader = ray.put(dataset.reader)
        report = self._run("encode_images", files, (reader,), progress)
        stored = self._stores["image"]
        stored.refresh()
        held = stored.holds([key or b"" for key in report.keys])
        positions, keys, quarantine = [], [], {}
        # a copy of a bad image is as bad as the one that was sent
        bad = {key: reason for key, reason in zip(report.keys, report.reasons, strict=True) if reason and key}
        for position, (key, reason) in enumerate(zip(report.keys, report.reasons, strict=True)):
            if key is not None and held[position]:
                positions.append(position)
                keys.append(key)
            else:
                quarantine[files[position]] = reason or bad.get(key or b"") or "was not stored"
        if not positions:
            file, reason = next(iter(quarantine.items()), ("-", "the dataset has no images"))
            raise SemscaleError(
                "not one image of the dataset could be encoded",
                where=dataset.name,
                found=f"{file}: {reason}",
            )
        return EncodedImages(positions, keys, quarantine, report.sent)

    def encode_texts(self, texts: Sequence[str], progress: Progress | None = None) -> int:
        """Bring these texts into the store and return how many were sent.

        Raises:
            SemscaleError: a text cannot be encoded; a study cannot go on without it.
        """
        unique = list(dict.fromkeys(texts))
        report = self._run("encode_texts", unique, (), progress)
        for text, reason in zip(unique, report.reasons, strict=True):
            if reason is not None:
                raise SemscaleError("a category text cannot be encoded", where=repr(text), found=reason)
        self._stores["text"].refresh()
        return report.sent

    def image_embeddings(self, keys: Sequence[bytes]) -> Float32:
        """Return unit-length rows [len(keys), dimension] of stored images."""
        return self._stores["image"].read(keys)

    def text_embeddings(self, texts: Sequence[str]) -> Float32:
        """Return unit-length rows [len(texts), dimension] of stored texts."""
        return self._stores["text"].read([text_key(text) for text in texts])

    def _run(self, method: str, items: Sequence[str], extra: tuple[Any, ...], progress: Progress | None) -> ChunkReport:
        """Let the actors pull chunks of the items; reports come back in any order and are put in place."""
        keys: list[bytes | None] = [None] * len(items)
        reasons: list[str | None] = [None] * len(items)
        sent = done = 0
        chunks = self._chunks(len(items))
        free = [actor for actor in self._actors for _ in range(_CHUNKS_PER_ACTOR)]
        running = self._running
        while True:
            while free and (part := next(chunks, None)) is not None:
                actor = free.pop(0)
                self._chunk += 1
                task = getattr(actor, method).remote(self._chunk, self._ledger, *extra, [items[i] for i in part])
                running[task] = (actor, part)
            if not running:
                return ChunkReport(keys, reasons, sent)
            (task, *_), _ = ray.wait(list(running), num_returns=1)
            actor, part = running.pop(task)
            report = _result(task)
            for i, key, reason in zip(part, report.keys, report.reasons, strict=True):
                keys[i], reasons[i] = key, reason
            sent += report.sent
            done += len(part)
            free.append(actor)
            if progress:
                progress(done, len(items))

    def _chunks(self, n: int) -> Iterator[range]:
        # small sets are cut finer, so that every actor has work; whole requests either way
        share = math.ceil(n / (_CHUNKS_PER_ACTOR * len(self._actors)) / self.batch_size)
        size = self.batch_size * min(_REQUESTS_PER_CHUNK, max(1, share))
        return (range(start, min(start + size, n)) for start in range(0, n, size))


def _result(task: Any) -> ChunkReport:
    try:
        report: ChunkReport = ray.get(task)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, SemscaleError):
            raise error.cause from None
        raise
    return report
