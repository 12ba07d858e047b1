"""In-process encoder, without servers and Ray: for notebooks, and for reading what is stored."""

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

from semscale.datasets.dataset import Dataset
from semscale.encoding.content_claims import ContentClaims
from semscale.encoding.image_pipeline import Picture, decode_all, read_all
from semscale.encoding.store_backed_encoder import ChunkReport, Chunks, NoEmbeddingError, StoreBackedEncoder
from semscale.encoding.throughput import ThroughputRecord
from semscale.store.embedding_store import Kind
from semscale.store.encoder_fingerprint import EncoderIdentity
from semscale.store.key_index import content_digest
from semscale.store.mirrored_directory import MirroredDirectory
from semscale.store.segment import Float32, l2_normalize, write_valid_rows

LOCAL_ENDPOINT = "this process"
"""Endpoint in the throughput log."""

_CHUNK = 256
_MAX_READERS = 4


class Model(Protocol):
    """A model in this process; returns embeddings, not normalised, and per input None or why it has none."""

    def encode_images(self, pictures: Sequence[Picture | bytes]) -> tuple[Float32, list[str | None]]: ...

    def encode_texts(self, texts: Sequence[str]) -> tuple[Float32, list[str | None]]: ...


@dataclass(frozen=True)
class _Chunk:
    """A part of the items after reading; `reasons` and `inputs` (to be encoded) are by index within the part."""

    part: range
    keys: Sequence[bytes | None]
    reasons: dict[int, str]
    inputs: dict[int, Any]


class LocalEncoder(StoreBackedEncoder):
    """Encodes in this process with a model that is loaded on demand; without `load` everything must be stored."""

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

        return self._encode("image", _prefetch(read, _parts(len(dataset.samples))), lambda i: dataset.samples[i].file)

    def _text_chunks(self, texts: Sequence[str]) -> Chunks:
        claim = self._claims("text")

        def read(part: range) -> _Chunk:
            keys = [content_digest(texts[i]) for i in part]
            return _Chunk(part, keys, {}, {i: texts[part[i]] for i in claim(part, keys)})

        return self._encode("text", map(read, _parts(len(texts))), texts.__getitem__)

    def _claims(self, kind: Kind) -> Callable[[range, Sequence[bytes | None]], list[int]]:
        """Return a function that returns which contents of a part have to be encoded: not stored, and each once."""
        self._stores[kind].refresh()
        claims, lock = ContentClaims([self._stores[kind].keys(), list(self._bad)]), threading.Lock()

        def claim(part: range, keys: Sequence[bytes | None]) -> list[int]:
            readable = {i: key for i, key in enumerate(keys) if key is not None}
            with lock:
                granted = claims.claim(part.start, list(readable.values()))
            return [i for i, is_granted in zip(readable, granted, strict=True) if is_granted]

        return claim

    def _encode(self, kind: Kind, chunks: Iterable[_Chunk], name: Callable[[int], str]) -> Chunks:
        for chunk in chunks:
            reasons, sent = chunk.reasons, len(chunk.inputs)
            calls: tuple[ThroughputRecord, ...] = ()
            if self._load is None:
                sent = 0
            elif chunk.inputs:
                start_time = time.monotonic()
                bad, failed = self._compute(kind, chunk, self._load())
                if failed:
                    raise NoEmbeddingError(kind, name(chunk.part[failed[0]]), bad[failed[0]])
                reasons = reasons | bad
                calls = (ThroughputRecord(LOCAL_ENDPOINT, "local", 0, kind, sent, time.monotonic() - start_time),)
            yield chunk.part, ChunkReport(chunk.keys, [reasons.get(i) for i in range(len(chunk.part))], sent, calls)

    def _compute(self, kind: Kind, chunk: _Chunk, model: Model) -> tuple[dict[int, str], list[int]]:
        """Encode and store a chunk; return the reasons of failures, and the inputs whose rows are not valid."""
        encode = model.encode_texts if kind == "text" else model.encode_images
        rows, reasons = encode(list(chunk.inputs.values()))
        rejected = [reason is not None for reason in reasons]
        l2_normalize(rows, reasons, "the model gave")
        indices = list(chunk.inputs)
        write_valid_rows(self._folder / kind, [chunk.keys[i] or b"" for i in indices], rows, reasons)
        bad = {i: reason for i, reason in zip(indices, reasons, strict=True) if reason is not None}
        return bad, [i for i, is_rejected in zip(indices, rejected, strict=True) if i in bad and not is_rejected]


def _parts(n: int) -> Iterator[range]:
    return (range(start, min(start + _CHUNK, n)) for start in range(0, n, _CHUNK))


def _prefetch(read: Callable[[range], _Chunk], parts: Iterator[range]) -> Iterator[_Chunk]:
    """Read the parts in threads ahead of the model, and yield them in order."""
    n_readers = min(_MAX_READERS, os.cpu_count() or 1)
    running: deque[Future[_Chunk]] = deque()
    pool = ThreadPoolExecutor(n_readers, thread_name_prefix="read")
    try:
        while True:
            while len(running) <= n_readers and (part := next(parts, None)) is not None:
                running.append(pool.submit(read, part))
            if not running:
                return
            yield running.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
