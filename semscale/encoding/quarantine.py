"""Images that cannot be used: a few are out of all arms alike, too many stop the work."""

from __future__ import annotations

from collections.abc import Mapping

from semscale.datasets.base import Dataset
from semscale.errors import SemscaleError


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
        first = [f"{file}: {reason}" for file, reason in list(self.quarantine.items())[:5]]
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
