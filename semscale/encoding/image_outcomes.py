"""Outcome of encoding the images of a dataset, and the errors raised when images or stored embeddings are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from semscale.datasets.base import Dataset
from semscale.encoding.store import EmbeddingStore, LostRowsError
from semscale.errors import SemscaleError

_SHOWN = 5


class TooManyBadImagesError(SemscaleError):
    """More images of a dataset cannot be used than the study allows.

    Args:
        dataset: its name.
        quarantine: file -> reason, as far as known.
        n_images: how many images the dataset has.
        most: how many bad ones were allowed.
    """

    def __init__(self, dataset: str, quarantine: Mapping[str, str], n_images: int, most: int = 0) -> None:
        self.dataset = dataset
        self.quarantine = dict(quarantine)
        first = [f"{file}: {reason}" for file, reason in list(self.quarantine.items())[:_SHOWN]]
        count = f"{len(self.quarantine)} of {n_images}"
        super().__init__(
            "too many images of the dataset cannot be used",
            where=dataset,
            found="; ".join([f"{count} so far", *first]) if first else "no images",
            expected=f"at most {most} (max_bad_fraction)",
            hint="mend or remove them (semscale datasets check lists them all), or raise max_bad_fraction",
        )


def check_bad(dataset: Dataset, quarantine: Mapping[str, str], most: int | None) -> None:
    """Raise TooManyBadImagesError when more images than `most` cannot be used; None allows any number."""
    if most is not None and len(quarantine) > most:
        raise TooManyBadImagesError(dataset.name, quarantine, len(dataset.samples) + len(dataset.rejected), most)


class NotStoredError(SemscaleError):
    """What a study needs is not in the store, and there is no server to ask.

    Args:
        what: images of which dataset, or texts.
        folder: the store's folder of the encoder.
        names: files or texts that are not there, or cannot be found there by their content.
        n: how many of the kind the study has.
    """

    def __init__(self, what: str, folder: str, names: Sequence[str], n: int) -> None:
        first = ", ".join(map(repr, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")
        super().__init__(
            f"the embedding store lacks {what}",
            where=folder,
            found=f"{len(names)} of {n} are not in it: {first}",
            hint="encode them first, with the same --store: semscale encode STUDY, or semscale sweep STUDY",
        )


@dataclass(frozen=True)
class EncodedImages:
    """The images of a dataset that are in the store, and those that cannot be used.

    Attributes:
        positions: int64[n], indices into the dataset's samples, ascending.
        keys: V32[n], per position the SHA-256 of the image file.
        quarantine: file -> reason for all other samples, and for what the listing refused.
        sent: documents sent to the servers in this run.
    """

    positions: npt.NDArray[np.int64]
    keys: npt.NDArray[np.void]
    quarantine: dict[str, str]
    sent: int


@dataclass
class ImageOutcomes:
    """Outcomes of the images of a dataset so far.

    Attributes:
        dataset: which.
        keys: V32[n], the SHA-256 of each file that could be read.
        known: bool[n], which could.
        reasons: position -> why it is not in the store.
        sent: how many were encoded in this run.
    """

    dataset: Dataset
    keys: npt.NDArray[np.void]
    known: npt.NDArray[np.bool_]
    reasons: dict[int, str] = field(default_factory=dict)
    sent: int = 0

    @classmethod
    def empty(cls, dataset: Dataset) -> ImageOutcomes:
        """Return the outcomes before anything is read."""
        n = len(dataset.samples)
        return cls(dataset, np.zeros(n, dtype="V32"), np.zeros(n, dtype=np.bool_))

    def record(self, i: int, key: bytes | None, reason: str | None) -> None:
        """Record the outcome of one image."""
        if key is not None:
            self.keys[i], self.known[i] = key, True
        if reason is not None:
            self.reasons[i] = reason

    def quarantine(self) -> dict[str, str]:
        """Return by file the reasons, those of the listing included."""
        files = {self.dataset.samples[i].file: self.reasons[i] for i in sorted(self.reasons)}
        return dict(self.dataset.rejected) | files

    def check(self, most_bad: int | None) -> None:
        """Raise TooManyBadImagesError as soon as more images than `most_bad` cannot be used; None allows any number."""
        if most_bad is not None and len(self.dataset.rejected) + len(self.reasons) > most_bad:
            check_bad(self.dataset, self.quarantine(), most_bad)

    def finalize(self, stored: EmbeddingStore, bad: dict[bytes, str], most_bad: int | None) -> EncodedImages:
        """Return the final result after every image has been processed.

        Args:
            stored: the rows.
            bad: by key the contents that cannot be encoded; those found now are added.
            most_bad: as for :meth:`check`.

        Raises:
            TooManyBadImagesError: more than `most_bad`, or not one image could be used.
            LostRowsError: what was stored is damaged already.
        """
        samples, reasons = self.dataset.samples, self.reasons
        stored.refresh()
        # a copy of a bad image is as bad as the one that was sent
        bad.update({self.keys[i].tobytes(): reason for i, reason in reasons.items() if self.known[i]})
        missing = [i for i in np.flatnonzero(~(self.known & stored.holds(self.keys))).tolist() if i not in reasons]
        for i in missing:
            reasons[i] = bad.get(self.keys[i].tobytes(), "was not stored")
        lost = [i for i in missing if self.known[i] and self.keys[i].tobytes() not in bad]
        if lost:  # they are no bad images, and belong into no quarantine
            raise LostRowsError(stored.folder, len(lost))
        good = np.ones(len(samples), dtype=np.bool_)
        good[list(reasons)] = False
        positions = np.flatnonzero(good)
        quarantine: Mapping[str, str] = self.quarantine()
        check_bad(self.dataset, quarantine, most_bad)
        if not len(positions):
            raise TooManyBadImagesError(self.dataset.name, quarantine, len(samples) + len(self.dataset.rejected))
        keys = self.keys if good.all() else self.keys[positions]  # a copy of millions is no small thing
        return EncodedImages(positions, keys, dict(quarantine), self.sent)
