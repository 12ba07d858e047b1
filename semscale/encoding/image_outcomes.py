"""Result of encoding the images of a dataset, and the errors raised when images or stored embeddings are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from semscale.datasets.base import Dataset
from semscale.errors import SemscaleError

_SHOWN = 5


@dataclass(frozen=True)
class EncodedImages:
    """The images of a dataset that are in the store, and those that cannot be used."""

    positions: npt.NDArray[np.int64]  # [n], indices into the dataset's samples, ascending
    keys: npt.NDArray[np.void]  # V32[n], the SHA-256 of each image file
    quarantine: dict[str, str]  # file -> reason for all other samples, and for what the listing refused
    sent: int  # how many were encoded in this run


class TooManyBadImagesError(SemscaleError):
    """More images of a dataset cannot be used than the study allows; the quarantine has their files and reasons."""

    def __init__(self, dataset: str, quarantine: Mapping[str, str], n_images: int, most: int = 0) -> None:
        self.dataset = dataset
        self.quarantine = dict(quarantine)
        first = [f"{file}: {reason}" for file, reason in list(self.quarantine.items())[:_SHOWN]]
        super().__init__(
            "too many images of the dataset cannot be used",
            where=dataset,
            found="; ".join([f"{len(self.quarantine)} of {n_images} so far", *first]) if first else "no images",
            expected=f"at most {most} (max_bad_fraction)",
            hint="mend or remove them (semscale datasets check lists them all), or raise max_bad_fraction",
        )


class NotStoredError(SemscaleError):
    """Images or texts that a study needs are not in the store, and nothing may be encoded."""

    def __init__(self, what: str, folder: str, names: Sequence[str], n: int) -> None:
        first = ", ".join(map(repr, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")
        super().__init__(
            f"the embedding store lacks {what}",
            where=folder,
            found=f"{len(names)} of {n} are not in it: {first}",
            hint="encode them first, with the same --store: semscale encode STUDY, or semscale sweep STUDY",
        )


def quarantine_of(dataset: Dataset, reasons: Mapping[int, str]) -> dict[str, str]:
    """Return by file why images cannot be used, those included that the listing refused."""
    return dict(dataset.rejected) | {dataset.samples[i].file: reasons[i] for i in sorted(reasons)}


def check_bad(dataset: Dataset, reasons: Mapping[int, str], most: int | None) -> None:
    """Raise TooManyBadImagesError when more images than `most` cannot be used; None allows any number."""
    if most is not None and len(dataset.rejected) + len(reasons) > most:
        n_images = len(dataset.samples) + len(dataset.rejected)
        raise TooManyBadImagesError(dataset.name, quarantine_of(dataset, reasons), n_images, most)
