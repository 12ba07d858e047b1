"""In-process encoder, without servers and without Ray: for notebooks, and for what is in the store already."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from semscale.datasets.base import Dataset
from semscale.encoding.content_claims import ContentClaims
from semscale.encoding.image_pipeline import Picture, decode_all, read_all
from semscale.encoding.store_backed_encoder import ChunkReport, Chunks, NoEmbeddingError, StoreBackedEncoder
from semscale.encoding.throughput import ThroughputRecord
from semscale.store.embedding_store import Kind
from semscale.store.encoder_fingerprint import EncoderIdentity
from semscale.store.key_index import content_digest
from semscale.store.mirrored_directory import MirroredDirectory
from semscale.store.segment import Float32, l2_normalize, write_good

HERE = "this process"
"""What stands for the endpoint in the work log."""

_CHUNK = 256
_MOST_READERS = 4


class Model(Protocol):
    """A model in this process; it returns embeddings, of any length, and per input None or why it has none."""

    def encode_images(self, pictures: Sequence[Picture | bytes]) -> tuple[Float32, list[str | None]]: ...

    def encode_texts(self, texts: Sequence[str]) -> tuple[Float32, list[str | None]]: ...


@dataclass(frozen=True)
class _Chunk:
    """A part of the items as read; the numbers in `reasons` and `inputs`, what is to be encoded, count within it."""

    part: range
    keys: Sequence[bytes | None]
    reasons: dict[int, str]
    inputs: dict[int, Any]


class LocalEncoder(StoreBackedEncoder):
    """Encodes in this process, with a model that is loaded when it is needed; without `load` all must be stored."""

    def __init__(
        self, identity: EncoderIdentity, load: Callable[[], Model] | None, store: Path | MirroredDirectory
    ) -> None:
        super().__init__(identity, store)
        self._load = load
        self.can_encode = load is not None

    def _image_chunks(self, dataset: Dataset) -> Chunks:
        claim = self._claims("image")

        def read(part: range) -> _Chunk:
            contents, reasons = read_all(dataset.reader, dataset.samples.locations(part.start, part.stop))
            keys = [None if content is None else content_digest(content) for content in contents]
            pictures, bad = decode_all(contents, claim(part, keys), self.identity.preprocess, self.identity.draft)
            return _Chunk(part, keys, reasons | bad, pictures)

        return self._encode("image", _ahead(read, _parts(len(dataset.samples))), lambda i: dataset.samples[i].file)

    def _text_chunks(self, texts: Sequence[str]) -> Chunks:
        claim = self._claims("text")

        def read(part: range) -> _Chunk:
            keys = [content_digest(texts[i]) for i in part]
            return _Chunk(part, keys, {}, {i: texts[part[i]] for i in claim(part, keys)})

        return self._encode("text", map(read, _parts(len(texts))), texts.__getitem__)

    def _claims(self, kind: Kind) -> Callable[[range, Sequence[bytes | None]], list[int]]:
        """Return the function that says which contents of a part are to be encoded: what is not stored, each once."""
        self._stores[kind].refresh()
        claims, lock = ContentClaims([self._stores[kind].keys(), list(self._bad)]), threading.Lock()

        def claim(part: range, keys: Sequence[bytes | None]) -> list[int]:
            known = {i: key for i, key in enumerate(keys) if key is not None}
            with lock:
                granted = claims.claim(part.start, list(known.values()))
            return [i for i, mine in zip(known, granted, strict=True) if mine]

        return claim

    def _encode(self, kind: Kind, chunks: Iterable[_Chunk], name: Callable[[int], str]) -> Chunks:
        for chunk in chunks:
            reasons, sent = chunk.reasons, len(chunk.inputs)
            work: tuple[ThroughputRecord, ...] = ()
            if self._load is None:
                sent = 0
            elif chunk.inputs:
                begun = time.monotonic()
                bad, unsure = self._compute(kind, chunk, self._load())
                if unsure:
                    raise NoEmbeddingError(kind, name(chunk.part[unsure[0]]), bad[unsure[0]])
                reasons = reasons | bad
                work = (ThroughputRecord(HERE, "local", 0, kind, sent, time.monotonic() - begun),)
            yield chunk.part, ChunkReport(chunk.keys, [reasons.get(i) for i in range(len(chunk.part))], sent, work)

    def _compute(self, kind: Kind, chunk: _Chunk, model: Model) -> tuple[dict[int, str], list[int]]:
        """Encode and store a chunk; return the reasons of what has no embedding, and for which the model gave one."""
        encode = model.encode_texts if kind == "text" else model.encode_images
        rows, reasons = encode(list(chunk.inputs.values()))
        refused = [reason is not None for reason in reasons]
        l2_normalize(rows, reasons, "the model gave")
        numbers = list(chunk.inputs)
        write_good(self._folder / kind, [chunk.keys[i] or b"" for i in numbers], rows, reasons)
        bad = {i: reason for i, reason in zip(numbers, reasons, strict=True) if reason is not None}
        return bad, [i for i, known in zip(numbers, refused, strict=True) if i in bad and not known]


def _parts(n: int) -> Iterator[range]:
    return (range(start, min(start + _CHUNK, n)) for start in range(0, n, _CHUNK))


def _ahead(read: Callable[[range], _Chunk], parts: Iterator[range]) -> Iterator[_Chunk]:
    """Read the parts in threads, ahead of the model, and yield them in order."""
    readers = min(_MOST_READERS, os.cpu_count() or 1)
    running: deque[Future[_Chunk]] = deque()
    pool = ThreadPoolExecutor(readers, thread_name_prefix="read")
    try:
        while True:
            while len(running) <= readers and (part := next(parts, None)) is not None:
                running.append(pool.submit(read, part))
            if not running:
                return
            yield running.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
