"""In-process encoder, without servers and without Ray: for notebooks, and to test servers against."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np

from semscale.datasets.base import Dataset
from semscale.encoding.encoder_fingerprint import EncoderIdentity
from semscale.encoding.folder import Folder
from semscale.encoding.image_pipeline import Picture, decode_all, read_all
from semscale.encoding.key_index import text_key
from semscale.encoding.segment import Float32, to_unit, write_segment
from semscale.encoding.store import Kind
from semscale.encoding.store_backed import Progress, StoreBackedEncoder
from semscale.encoding.throughput import Work, WorkLog

HERE = "this process"
"""What stands for the endpoint in the work log."""

_CHUNK = 256
_MOST_READERS = 4


class Model(Protocol):
    """A model in this process; see :class:`semscale.models.in_process.InProcessModel`."""

    def encode_images(self, pictures: Sequence[Picture | bytes]) -> tuple[Float32, list[str | None]]:
        """Return embeddings, of any length, and per picture or file None or why it has none."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> tuple[Float32, list[str | None]]:
        """Return embeddings, of any length, and per text None or why it has none."""
        ...


class LocalEncoder(StoreBackedEncoder):
    """Encodes images and texts once each in this process, as :class:`semscale.encoding.encoder.Encoder` does.

    The rows are those of our server of the same model on the same kind of device, on a CPU to the last bit, and are
    stored in the same place, so that either finds what the other has encoded.

    Args:
        identity: the encoder.
        load: loads the model; called when there is something to encode, and not at all when everything is stored.
        store: root of the embedding store.
    """

    def __init__(self, identity: EncoderIdentity, load: Callable[[], Model], store: Path | Folder) -> None:
        super().__init__(identity, store)
        self._load = load
        self._work = WorkLog()

    @property
    def work(self) -> WorkLog:
        """Who encoded what so far."""
        return self._work

    def _encode_image_chunks(
        self, dataset: Dataset, progress: Progress | None
    ) -> Iterator[tuple[range, Sequence[bytes | None], Sequence[str | None], int]]:
        self._stores["image"].refresh()
        for part, keys, reasons, pictures in self._read(dataset):
            wanted = [(i, key) for i in pictures if (key := keys[i]) is not None]
            if wanted:
                failed = self._compute("image", [key for _, key in wanted], [pictures[i] for i, _ in wanted])
                reasons.update({wanted[j][0]: reason for j, reason in failed.items()})
            yield part, keys, [reasons.get(i) for i in range(len(part))], len(wanted)
            if progress:
                progress(part.stop, len(dataset.samples))

    def _encode_text_chunks(
        self, texts: Sequence[str], progress: Progress | None
    ) -> Iterator[tuple[Sequence[int], Sequence[str | None], int]]:
        keys = [text_key(text) for text in texts]
        self._stores["text"].refresh()
        held = self._stores["text"].holds(keys)
        missing = [i for i in range(len(texts)) if not held[i] and keys[i] not in self._bad]
        for start in range(0, len(missing), _CHUNK):
            chunk = missing[start : start + _CHUNK]
            failed = self._compute("text", [keys[i] for i in chunk], [texts[i] for i in chunk])
            yield chunk, [failed.get(j) for j in range(len(chunk))], len(chunk)
            if progress:
                progress(len(texts) - len(missing) + start + len(chunk), len(texts))
        if progress and not missing:
            progress(len(texts), len(texts))

    def _read(
        self, dataset: Dataset
    ) -> Iterator[tuple[range, list[bytes | None], dict[int, str], dict[int, Picture | bytes]]]:
        """Read and decode what is not stored, ahead of the model; numbers count within each part."""
        stored, lock, claimed = self._stores["image"], threading.Lock(), set(self._bad)

        def read(part: range) -> tuple[range, list[bytes | None], dict[int, str], dict[int, Picture | bytes]]:
            contents, reasons = read_all(dataset.reader, dataset.samples.places(part.start, part.stop))
            keys = [None if content is None else hashlib.sha256(content).digest() for content in contents]
            wanted = []
            with lock:  # a content that occurs twice is encoded once
                for i, key in enumerate(keys):
                    if key is not None and key not in claimed and key not in stored:
                        claimed.add(key)
                        wanted.append(i)
            pictures, bad = decode_all(self.identity, contents, wanted)
            return part, keys, reasons | bad, pictures

        n = len(dataset.samples)
        parts = deque(range(start, min(start + _CHUNK, n)) for start in range(0, n, _CHUNK))
        readers = min(_MOST_READERS, os.cpu_count() or 1)
        running: deque[Future[tuple[range, list[bytes | None], dict[int, str], dict[int, Picture | bytes]]]] = deque()
        pool = ThreadPoolExecutor(readers, thread_name_prefix="read")
        try:
            while parts or running:
                while parts and len(running) <= readers:
                    running.append(pool.submit(read, parts.popleft()))
                yield running.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _compute(self, kind: Kind, keys: Sequence[bytes], contents: Sequence[Picture | bytes | str]) -> dict[int, str]:
        """Encode and store, and return by number the reasons of what has no embedding."""
        model = self._load()
        begun = time.monotonic()
        if kind == "text":
            rows, reasons = model.encode_texts([one for one in contents if isinstance(one, str)])
        else:
            rows, reasons = model.encode_images([one for one in contents if not isinstance(one, str)])
        to_unit(rows, reasons, "the model gave")
        good = [j for j, reason in enumerate(reasons) if reason is None]
        if good:
            write_segment(self._folder / kind, [keys[j] for j in good], np.ascontiguousarray(rows[good]))
        self._work.add([Work(HERE, "local", 0, kind, len(contents), time.monotonic() - begun)])
        return {j: reason for j, reason in enumerate(reasons) if reason is not None}
