"""Encoder in front of the embedding store: what all encoders share, whoever computes the embeddings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from semscale.datasets.base import Dataset
from semscale.encoding.encoder_fingerprint import EncoderIdentity
from semscale.encoding.folder import Folder
from semscale.encoding.image_outcomes import EncodedImages, ImageOutcomes, NotStoredError, check_bad
from semscale.encoding.key_index import text_digest
from semscale.encoding.segment import Float32
from semscale.encoding.store import EmbeddingStore, Kind, LostRowsError
from semscale.encoding.throughput import ThroughputLog, ThroughputRecord
from semscale.errors import SemscaleError

Progress = Callable[[int, int], None]

NOT_STORED = "it is not in the embedding store"
"""The reason of an item that may not be sent anywhere."""


@dataclass(frozen=True)
class ChunkReport:
    """Outcome of a chunk of images or texts.

    Attributes:
        keys: per item the SHA-256 of its content; None where it could not be read.
        reasons: per item None, or why it is not in the store.
        sent: how many documents were encoded.
        work: by whom.
    """

    keys: Sequence[bytes | None]
    reasons: Sequence[str | None]
    sent: int
    work: tuple[ThroughputRecord, ...] = ()


class Encoder(ABC):
    """Encodes images and texts once each; a context manager.

    Args:
        identity: the encoder.
        store: root of the embedding store.

    Attributes:
        work: who encoded what so far.
    """

    def __init__(self, identity: EncoderIdentity, store: Path | Folder) -> None:
        self.identity = identity
        self.work = ThroughputLog()
        self._root = Folder.of(store)
        self._folder = self._root / identity.fingerprint
        self._stores: dict[Kind, EmbeddingStore] = {
            "image": EmbeddingStore(self._folder / "image"),
            "text": EmbeddingStore(self._folder / "text"),
        }
        # contents that are not encoded again in this run, and why they are not in the store
        self._bad: dict[bytes, str] = {}

    @abstractmethod
    def _image_chunks(self, dataset: Dataset) -> Iterator[tuple[range, ChunkReport]]:
        """Encode the images chunk by chunk, in any order."""

    @abstractmethod
    def _text_chunks(self, texts: Sequence[str]) -> Iterator[tuple[range, ChunkReport]]:
        """Encode the texts chunk by chunk, in any order."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027  (an encoder may have nothing to close)
        """Release what encodes; what is stored stays."""

    def encode_images(
        self, dataset: Dataset, progress: Progress | None = None, most_bad: int | None = None
    ) -> EncodedImages:
        """Bring all images of a dataset into the store.

        Args:
            dataset: the images.
            progress: called with the number of images done, and of all.
            most_bad: stop when more images than this cannot be used.

        Raises:
            TooManyBadImagesError: more than `most_bad`, or not one image could be used.
            NotStoredError: nothing may be sent, and images are not in the store.
            LostRowsError: what was stored is damaged already.
            SemscaleError: no server answers, the model cannot be loaded, or the store cannot be written.
        """
        check_bad(dataset, dataset.rejected, most_bad)
        outcomes = ImageOutcomes.empty(dataset)
        lacking: list[int] = []
        for part, report in self._counted(self._image_chunks(dataset), len(dataset.samples), progress):
            for i, key, reason in zip(part, report.keys, report.reasons, strict=True):
                if reason == NOT_STORED:
                    lacking.append(i)
                outcomes.record(i, key, None if reason == NOT_STORED else reason)
            outcomes.sent += report.sent
            outcomes.check(most_bad)
        if lacking:
            files = [dataset.samples[i].file for i in sorted(lacking)]
            raise NotStoredError(f"images of {dataset.name}", str(self._folder), files, len(dataset.samples))
        return outcomes.finalize(self._stores["image"], self._bad, most_bad)

    def encode_texts(
        self, texts: Sequence[str], progress: Progress | None = None, refused: dict[str, str] | None = None
    ) -> int:
        """Bring these texts into the store and return how many were encoded in this run.

        Args:
            texts: what to encode.
            progress: called with the number of texts done, and of all.
            refused: takes the texts that cannot be encoded, with the reason, for a caller who can go on without them.

        Raises:
            NotStoredError: nothing may be sent, and texts are not in the store.
            LostRowsError: what was stored is damaged already.
            SemscaleError: a text cannot be encoded, and `refused` is not given: a study cannot go on without it.
        """
        unique = list(dict.fromkeys(texts))
        keys = [text_digest(text) for text in unique]
        lacking: list[int] = []
        sent = 0
        for part, report in self._counted(self._text_chunks(unique), len(unique), progress):
            for i, reason in zip(part, report.reasons, strict=True):
                if reason == NOT_STORED:
                    lacking.append(i)
                elif reason is not None:
                    self._bad[keys[i]] = reason
                    _check_none_refused({unique[i]: reason}, refused)
            sent += report.sent
        if lacking:
            raise NotStoredError("category texts", str(self._folder), [unique[i] for i in sorted(lacking)], len(unique))
        stored = self._stores["text"]
        damaged = stored.refresh()
        missing = {text: key for text, key in zip(unique, keys, strict=True) if key not in stored}
        lost = sum(key not in self._bad for key in missing.values())
        if damaged and lost:
            raise LostRowsError(stored.folder, lost)
        _check_none_refused({text: self._bad[key] for text, key in missing.items() if key in self._bad}, refused)
        if refused is not None:
            refused.update({text: self._bad.get(key, "was not stored") for text, key in missing.items()})
        return sent

    def image_embeddings(self, keys: npt.NDArray[np.void]) -> Float32:
        """Return unit-length rows [len(keys), dimension] of stored images."""
        return self._stores["image"].read(keys)

    def text_embeddings(self, texts: Sequence[str]) -> Float32:
        """Return unit-length rows [len(texts), dimension] of stored texts."""
        return self._stores["text"].read([text_digest(text) for text in texts])

    def _counted(
        self, chunks: Iterator[tuple[range, ChunkReport]], n: int, progress: Progress | None
    ) -> Iterator[tuple[range, ChunkReport]]:
        """Pass the chunks on, log who encoded them, and report the progress after each."""
        done = 0
        for part, report in chunks:
            self.work.add(report.work)
            yield part, report
            done += len(part)
            if progress:
                progress(done, n)


def _check_none_refused(bad: dict[str, str], refused: dict[str, str] | None) -> None:
    if bad and refused is None:
        text, reason = next(iter(bad.items()))
        raise SemscaleError("a category text cannot be encoded", where=repr(text), found=reason)
