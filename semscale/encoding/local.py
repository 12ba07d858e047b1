"""Encoding in this process, without servers and without Ray: for notebooks, and to test servers against."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
import numpy.typing as npt

from semscale.datasets.base import Dataset
from semscale.encoding.encoder_fingerprint import EncoderIdentity
from semscale.encoding.folder import Folder
from semscale.encoding.image_outcomes import EncodedImages, Found, check_bad
from semscale.encoding.image_pipeline import Picture, decode_all, read_all
from semscale.encoding.key_index import text_key
from semscale.encoding.segment import Float32, to_unit, write_segment
from semscale.encoding.store import EmbeddingStore, Kind, LostRowsError
from semscale.encoding.throughput import Work, WorkLog
from semscale.errors import SemscaleError

Progress = Callable[[int, int], None]

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


class LocalEncoder:
    """Encodes images and texts once each, by itself, with what :class:`semscale.encoding.encoder.Encoder` offers.

    The rows are those of our server of the same model on the same kind of device, on a CPU to the last bit, and lie in
    the same place of the store, so that either finds what the other has encoded.

    Args:
        identity: the encoder.
        load: brings the model; called when there is something to encode, and not at all when everything is stored.
        store: root of the embedding store.
    """

    def __init__(self, identity: EncoderIdentity, load: Callable[[], Model], store: Path | Folder) -> None:
        self.identity = identity
        self.batch_size = _CHUNK
        self.work = WorkLog()
        self._load = load
        self._folder = Folder.of(store) / identity.fingerprint
        self._stores: dict[Kind, EmbeddingStore] = {
            "image": EmbeddingStore(self._folder / "image"),
            "text": EmbeddingStore(self._folder / "text"),
        }
        self._bad: dict[bytes, str] = {}

    def __enter__(self) -> LocalEncoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Do nothing: what was encoded is stored already."""

    def encode_images(
        self, dataset: Dataset, progress: Progress | None = None, most_bad: int | None = None
    ) -> EncodedImages:
        """Bring all images of a dataset into the store.

        Args:
            dataset: what to read.
            progress: is told how many images are done.
            most_bad: stop when more images than this cannot be used.

        Raises:
            TooManyBadImagesError: more than `most_bad`, or not one image could be used.
            LostRowsError: what was stored is damaged already.
            SemscaleError: the model cannot be had, or the store cannot be written.
        """
        check_bad(dataset, dataset.rejected, most_bad)
        self._stores["image"].refresh()
        found = Found.nothing(dataset)
        n = len(dataset.samples)
        for part, keys, reasons, pictures in self._read(dataset):
            places = list(pictures)
            if places:
                wanted = [key for i in places if (key := keys[i]) is not None]
                failed = self._compute("image", wanted, [pictures[i] for i in places])
                found.sent += len(places)
                reasons.update({places[j]: reason for j, reason in failed.items()})
            for i, key in enumerate(keys):
                found.note(part.start + i, key, reasons.get(i))
            found.check(most_bad)
            if progress:
                progress(part.stop, n)
        return found.settle(self._stores["image"], self._bad, most_bad)

    def encode_texts(
        self, texts: Sequence[str], progress: Progress | None = None, refused: dict[str, str] | None = None
    ) -> int:
        """Bring these texts into the store and return how many were encoded.

        Args:
            texts: what to encode.
            progress: is told how many texts are done.
            refused: takes the texts that cannot be encoded, with the reason, for a caller who can go on without them.

        Raises:
            SemscaleError: a text cannot be encoded, and `refused` is not given: a study cannot go on without it.
        """
        unique = list(dict.fromkeys(texts))
        keys = [text_key(text) for text in unique]
        stored = self._stores["text"]
        stored.refresh()
        held = stored.holds(keys)
        missing = [i for i in range(len(unique)) if not held[i] and keys[i] not in self._bad]
        for start in range(0, len(missing), _CHUNK):
            chunk = missing[start : start + _CHUNK]
            failed = self._compute("text", [keys[i] for i in chunk], [unique[i] for i in chunk])
            self._bad.update({keys[chunk[j]]: reason for j, reason in failed.items()})
            if progress:
                progress(len(unique) - len(missing) + start + len(chunk), len(unique))
        if progress and not missing:
            progress(len(unique), len(unique))
        bad = {text: self._bad[key] for text, key in zip(unique, keys, strict=True) if key in self._bad}
        if bad and refused is None:
            text, reason = next(iter(bad.items()))
            raise SemscaleError("a category text cannot be encoded", where=repr(text), found=reason)
        if missing and stored.refresh():
            lost = sum(key not in stored and key not in self._bad for key in keys)
            if lost:
                raise LostRowsError(stored.folder, lost)
        if refused is not None:
            refused.update(bad)
        return len(missing)

    def image_embeddings(self, keys: npt.NDArray[np.void]) -> Float32:
        """Return unit-length rows [len(keys), dimension] of stored images."""
        return self._stores["image"].read(keys)

    def text_embeddings(self, texts: Sequence[str]) -> Float32:
        """Return unit-length rows [len(texts), dimension] of stored texts."""
        return self._stores["text"].read([text_key(text) for text in texts])

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
        self.work.add([Work(HERE, "local", 0, kind, len(contents), time.monotonic() - begun)])
        return {j: reason for j, reason in enumerate(reasons) if reason is not None}
