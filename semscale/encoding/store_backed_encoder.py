"""Encoder in front of the embedding store: what all encoders share, whoever computes the embeddings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from semscale.common.errors import ServerError
from semscale.common.redact import shown
from semscale.datasets.base import Dataset
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
    """The images of a dataset that are in the store, and those that cannot be used."""

    positions: npt.NDArray[np.int64]  # [n], indices into the dataset's samples, ascending
    keys: npt.NDArray[np.void]  # V32[n], the SHA-256 of each image file
    quarantine: dict[str, str]  # file -> reason for all other samples, and for what the listing refused
    sent: int  # how many were encoded in this run


class TooManyBadImagesError(ServerError):
    """More images of a dataset cannot be used than the study allows; the quarantine has their files and reasons."""

    def __init__(self, dataset: str, quarantine: Mapping[str, str], n_images: int, most: int = 0) -> None:
        self.dataset = dataset
        self.quarantine = dict(quarantine)
        first = [f"{file}: {reason}" for file, reason in list(self.quarantine.items())[:_SHOWN]]
        found = "; ".join([f"{len(self.quarantine)} of {n_images} so far", *first]) if first else "no images"
        what, expected = "too many images of the dataset cannot be used", f"at most {most} (max_bad_fraction)"
        hint = "mend or remove them (semscale datasets check lists them all), or raise max_bad_fraction"
        super().__init__(what, where=dataset, found=found, expected=expected, hint=hint)


class NotStoredError(ServerError):
    """Images or texts that a study needs are not in the store, and nothing may be encoded."""

    def __init__(self, what: str, folder: str, names: Sequence[str], n: int) -> None:
        first = ", ".join(map(repr, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")
        found = f"{len(names)} of {n} are not in it: {first}"
        hint = "encode them first, with the same --store: semscale encode STUDY, or semscale sweep STUDY"
        super().__init__(f"the embedding store lacks {what}", where=folder, found=found, hint=hint)


class NoEmbeddingError(ServerError):
    """An image or text that can be read has no embedding, for a reason that may pass: no case for the quarantine."""

    def __init__(self, kind: Kind, item: str, reason: str) -> None:
        what, where = f"there is no embedding of {'an image' if kind == 'image' else 'a text'}", shown(item)
        hint = "give the same command again, what is encoded is kept; if it fails for ever, remove this one"
        super().__init__(what, where=where, found=reason, hint=hint)


def _quarantine(dataset: Dataset, reasons: Mapping[int, str]) -> dict[str, str]:
    """Return by file why images cannot be used, those included that the listing refused."""
    return dict(dataset.rejected) | {dataset.samples[i].file: reasons[i] for i in sorted(reasons)}


def _check_bad(dataset: Dataset, most: int | None, reasons: Mapping[int, str]) -> None:
    """Raise TooManyBadImagesError when more images than `most` cannot be used; None allows any number."""
    if most is not None and len(dataset.rejected) + len(reasons) > most:
        n_images = len(dataset.samples) + len(dataset.rejected)
        raise TooManyBadImagesError(dataset.name, _quarantine(dataset, reasons), n_images, most)


@dataclass(frozen=True)
class ChunkReport:
    """Outcome of a chunk of images or texts: how many were encoded, and by whom."""

    keys: Sequence[bytes | None]  # the SHA-256 of each item's content; None where it could not be read
    reasons: Sequence[str | None]  # why an item is not in the store
    sent: int
    work: tuple[ThroughputRecord, ...] = ()


Chunks = Iterator[tuple[range, ChunkReport]]


@dataclass(frozen=True)
class _Outcomes:
    keys: npt.NDArray[np.void]  # of each item; zeros where the content could not be read
    reasons: dict[int, str]  # why items are not in the store
    sent: int


class StoreBackedEncoder(ABC):
    """Encodes images and texts once each; a context manager."""

    can_encode = True
    """Whether what is not in the store can be brought there."""

    def __init__(self, identity: EncoderIdentity, store: Path | MirroredDirectory) -> None:
        self.identity = identity
        self.work = ThroughputLog()
        self._root = MirroredDirectory.of(store)
        self._folder = self._root / identity.fingerprint
        self._stores: dict[Kind, EmbeddingStore] = {
            "image": EmbeddingStore(self._folder / "image"),
            "text": EmbeddingStore(self._folder / "text"),
        }
        # contents that are not encoded again in this run, and why they are not in the store
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
        """Release what encodes; what is stored stays."""

    def encode_images(
        self, dataset: Dataset, progress: Progress | None = None, most_bad: int | None = None
    ) -> EncodedImages:
        """Bring all images of a dataset into the store; more than `most_bad` that cannot be used are an error."""
        n = len(dataset.samples)

        check = partial(_check_bad, dataset, most_bad)
        check({})
        outcomes = self._collect(self._image_chunks(dataset), n, check, progress)
        # lost rows are no bad images, and belong into no quarantine
        self._check_stored("image", outcomes, f"images of {dataset.name}", lambda i: dataset.samples[i].file)
        check(outcomes.reasons)
        quarantine = _quarantine(dataset, outcomes.reasons)
        good = np.ones(n, dtype=np.bool_)
        good[list(outcomes.reasons)] = False
        if not good.any():
            raise TooManyBadImagesError(dataset.name, quarantine, n + len(dataset.rejected))
        keys = outcomes.keys if good.all() else outcomes.keys[good]  # a copy of millions is no small thing
        return EncodedImages(np.flatnonzero(good), keys, quarantine, outcomes.sent)

    def encode_texts(
        self, texts: Sequence[str], progress: Progress | None = None, refused: dict[str, str] | None = None
    ) -> int:
        """Bring texts into the store and count those encoded; `refused` takes what cannot be, else an error."""
        unique = list(dict.fromkeys(texts))

        def check(reasons: Mapping[int, str]) -> None:
            if reasons and refused is None:
                i, reason = next(iter(reasons.items()))
                raise ServerError("a category text cannot be encoded", where=repr(unique[i]), found=reason)

        outcomes = self._collect(self._text_chunks(unique), len(unique), check, progress)
        self._check_stored("text", outcomes, "category texts", unique.__getitem__)
        check(outcomes.reasons)
        if refused is not None:
            refused.update({unique[i]: reason for i, reason in outcomes.reasons.items()})
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
        """Gather the outcomes of n items; ``check`` may stop on the reasons so far."""
        keys, reasons = np.zeros(n, dtype="V32"), dict[int, str]()
        done = sent = 0
        for part, report in chunks:
            self.work.add(report.work)
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
        """Make sure that all items are in the store, but for bad contents and their copies, which get the reason."""
        stored = self._stores[kind]
        stored.refresh()
        lost = []
        for i in np.flatnonzero(~stored.holds(outcomes.keys)).tolist():
            if i not in outcomes.reasons:
                if (reason := self._bad.get(outcomes.keys[i].tobytes())) is None:
                    lost.append(i)
                else:
                    outcomes.reasons[i] = reason
        if lost and self.can_encode:
            raise LostRowsError(stored.folder, len(lost))
        if lost:
            raise NotStoredError(what, str(self._folder), [name(i) for i in lost], len(outcomes.keys))
