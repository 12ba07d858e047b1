"""What a study cannot do without: images that can be used, and rows in the store where nothing may be sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from semscale.datasets.base import Dataset
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

    def rows(self) -> list[tuple[str, str, str]]:
        """Return dataset, file and reason of the images."""
        return [(self.dataset, file, reason) for file, reason in self.quarantine.items()]


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
