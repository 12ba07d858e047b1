"""Encoder with the embedding store as its cache: the base of the distributed and the in-process encoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from semscale.common.errors import CategoryError, DatasetError, ServerError, StoreError
from semscale.common.redact import mask_url
from semscale.datasets.dataset import Dataset
from semscale.encoding.throughput import ThroughputLog, ThroughputRecord
from semscale.store.embedding_store import EmbeddingStore, Kind, LostRowsError
from semscale.store.encoder_fingerprint import EncoderIdentity
from semscale.store.key_index import content_digest
from semscale.store.mirrored_directory import MirroredDirectory
from semscale.store.segment import Float32

Progress = Callable[[int, int], None]
_SHOWN = 5


@dataclass(frozen=True)
class EncodedImages:
    """Images of a dataset that are stored, and the quarantine of those that cannot be used."""

    positions: npt.NDArray[np.int64]  # [n], indices into the dataset's samples, ascending
    keys: npt.NDArray[np.void]  # V32[n], the SHA-256 of each image file
    quarantine: dict[str, str]  # file -> reason, for all other samples and for those that the listing rejected
    sent: int  # number encoded in this run


class TooManyBadImagesError(DatasetError):
    """More images of a dataset cannot be used than the study allows; see `quarantine`."""

    def __init__(self, dataset: str, quarantine: Mapping[str, str], n_images: int, max_bad: int = 0) -> None:
        self.dataset = dataset
        self.quarantine = dict(quarantine)
        first = [f"{file}: {reason}" for file, reason in list(self.quarantine.items())[:_SHOWN]]
        found = "; ".join([f"{len(self.quarantine)} of {n_images} so far", *first]) if first else "no images"
        what, expected = "too many images of the dataset cannot be used", f"at most {max_bad} (max_bad_fraction)"
        hint = "fix or remove them (semscale datasets check lists them all), or raise max_bad_fraction"
        super().__init__(what, where=dataset, found=found, expected=expected, hint=hint)


class NotStoredError(StoreError):
    """Images or texts that a study needs are not stored, and nothing may be encoded."""

    def __init__(self, what: str, folder: str, names: Sequence[str], n: int) -> None:
        first = ", ".join(map(repr, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")
        found = f"{len(names)} of {n} are not in it: {first}"
        hint = "encode them first, with the same --store: semscale encode STUDY, or semscale sweep STUDY"
        super().__init__(f"the embedding store lacks {what}", where=folder, found=found, hint=hint)


class NoEmbeddingError(ServerError):
    """A readable image or text has no embedding for a transient reason, so it is not put into the quarantine."""

    def __init__(self, kind: Kind, item: str, reason: str) -> None:
        what, where = f"{'an image' if kind == 'image' else 'a text'} has no embedding", mask_url(item)
        hint = "run the same command again, what is encoded is kept; if it always fails, remove this one"
        super().__init__(what, where=where, found=reason, hint=hint)


def _quarantine(dataset: Dataset, reasons: Mapping[int, str]) -> dict[str, str]:
    """Return the reasons of unusable images by file, including those that the listing rejected."""
    return dict(dataset.rejected) | {dataset.samples[i].file: reasons[i] for i in sorted(reasons)}


def _check_bad(dataset: Dataset, max_bad: int | None, reasons: Mapping[int, str]) -> None:
    """Raise TooManyBadImagesError if more than `max_bad` images cannot be used; None allows any number."""
    if max_bad is not None and len(dataset.rejected) + len(reasons) > max_bad:
        n_images = len(dataset.samples) + len(dataset.rejected)
        raise TooManyBadImagesError(dataset.name, _quarantine(dataset, reasons), n_images, max_bad)


@dataclass(frozen=True)
class ChunkReport:
    """Result of a chunk of images or texts."""

    keys: Sequence[bytes | None]  # the SHA-256 of each item's content; None if it could not be read
    reasons: Sequence[str | None]  # why an item is not stored
    sent: int  # number encoded
    calls: tuple[ThroughputRecord, ...] = ()


Chunks = Iterator[tuple[range, ChunkReport]]


@dataclass(frozen=True)
class _Outcomes:
    keys: npt.NDArray[np.void]  # of each item; zeros if it could not be read
    reasons: dict[int, str]  # why items are not stored
    sent: int


class StoreBackedEncoder(ABC):
    """Encodes every image and text that is not stored, and reads the rows; a context manager."""

    can_encode = True
    """True if it can encode what is not stored."""

    def __init__(self, identity: EncoderIdentity, store: Path | MirroredDirectory) -> None:
        self.identity = identity
        self.throughput = ThroughputLog()
        self._root = MirroredDirectory.of(store)
        self._folder = self._root / identity.fingerprint
        self._stores: dict[Kind, EmbeddingStore] = {
            "image": EmbeddingStore(self._folder / "image"),
            "text": EmbeddingStore(self._folder / "text"),
        }
        # reasons of contents that failed in this run and are not sent again
        self._bad: dict[bytes, str] = {}

    @abstractmethod
    def _image_chunks(self, dataset: Dataset) -> Chunks:
        """Encode the images chunk by chunk, in any order."""

    @abstractmethod
    def _text_chunks(self, texts: Sequence[str]) -> Chunks:
        """Encode the texts chunk by chunk, in any order."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027  (an encoder may have nothing to close)
        """Release the model or the actors; stored rows stay."""

    def encode_images(
        self, dataset: Dataset, progress: Progress | None = None, max_bad: int | None = None
    ) -> EncodedImages:
        """Encode images that are not stored; TooManyBadImagesError if more than `max_bad` cannot be used."""
        n = len(dataset.samples)
        check = partial(_check_bad, dataset, max_bad)
        check({})
        outcomes = self._collect(self._image_chunks(dataset), n, check, progress)
        # lost rows are not bad images
        self._check_stored("image", outcomes, f"images of {dataset.name}", lambda i: dataset.samples[i].file)
        check(outcomes.reasons)
        quarantine = _quarantine(dataset, outcomes.reasons)
        good = np.ones(n, dtype=np.bool_)
        good[list(outcomes.reasons)] = False
        if not good.any():
            raise TooManyBadImagesError(dataset.name, quarantine, n + len(dataset.rejected))
        keys = outcomes.keys if good.all() else outcomes.keys[good]  # no copy of millions
        return EncodedImages(np.flatnonzero(good), keys, quarantine, outcomes.sent)

    def encode_texts(
        self, texts: Sequence[str], progress: Progress | None = None, rejected: dict[str, str] | None = None
    ) -> int:
        """Encode texts that are not stored and return their number; bad ones go to `rejected`, or are an error."""
        unique = list(dict.fromkeys(texts))

        def check(reasons: Mapping[int, str]) -> None:
            if reasons and rejected is None:
                i, reason = next(iter(reasons.items()))
                raise CategoryError("a category text cannot be encoded", where=repr(unique[i]), found=reason)

        outcomes = self._collect(self._text_chunks(unique), len(unique), check, progress)
        self._check_stored("text", outcomes, "category texts", unique.__getitem__)
        check(outcomes.reasons)
        if rejected is not None:
            rejected.update({unique[i]: reason for i, reason in outcomes.reasons.items()})
        return outcomes.sent

    def image_embeddings(self, keys: npt.NDArray[np.void]) -> Float32:
        """Return unit-length rows [len(keys), dimension] of stored images."""
        return self._stores["image"].read(keys)

    def text_embeddings(self, texts: Sequence[str]) -> Float32:
        """Return unit-length rows [len(texts), dimension] of stored texts."""
        return self._stores["text"].read([content_digest(text) for text in texts])

    def _collect(
        self, chunks: Chunks, n: int, check: Callable[[Mapping[int, str]], None], progress: Progress | None
    ) -> _Outcomes:
        """Gather the outcomes of n items; ``check`` is called with the reasons so far and may raise."""
        keys, reasons = np.zeros(n, dtype="V32"), dict[int, str]()
        done = sent = 0
        for part, report in chunks:
            self.throughput.add(report.calls)
            for i, key, reason in zip(part, report.keys, report.reasons, strict=True):
                if key is not None:
                    keys[i] = key
                    if reason is not None:
                        self._bad[key] = reason
                if reason is not None:
                    reasons[i] = reason
            sent += report.sent
            done += len(part)
            check(reasons)
            if progress:
                progress(done, n)
        return _Outcomes(keys, reasons, sent)

    def _check_stored(self, kind: Kind, outcomes: _Outcomes, what: str, name: Callable[[int], str]) -> None:
        """Raise unless all items are stored except bad contents; copies of these get their reason."""
        stored = self._stores[kind]
        stored.refresh()
        lost = []
        for i in np.flatnonzero(~stored.contains(outcomes.keys)).tolist():
            if i not in outcomes.reasons:
                if (reason := self._bad.get(outcomes.keys[i].tobytes())) is None:
                    lost.append(i)
                else:
                    outcomes.reasons[i] = reason
        if lost and self.can_encode:
            raise LostRowsError(stored.folder, len(lost))
        if lost:
            raise NotStoredError(what, str(self._folder), [name(i) for i in lost], len(outcomes.keys))
