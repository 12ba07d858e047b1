"""Dataset of named images with one true class each, and the reader that fetches their bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from semscale.datasets.samples import SampleTable


class Reader(Protocol):
    """Fetches the bytes of an image by its place; small and picklable, so that workers do the reading.

    A reader may have an attribute ``parallel: int``: the number of concurrent reads that pay.
    """

    def read(self, place: str) -> bytes:
        """Return the encoded image (PNG, JPEG, ...). Raises OSError when it cannot be read."""
        ...


@dataclass(frozen=True)
class Dataset:
    """Images with one true class each.

    Attributes:
        name: short name, used in files, runs and tables.
        domain: the word for what all classes are ("flower"), used by the domain templates of a ladder.
        classes: class names in a stable order.
        samples: the images, in a stable order; a sequence of :class:`semscale.datasets.samples.Sample`.
        reader: fetches the bytes of a sample by its place.
        rejected: file -> reason of what the listing already found unusable; part of the quarantine.
        notes: what a user should know about the listing, a line each.
    """

    name: str
    domain: str
    classes: tuple[str, ...]
    samples: SampleTable
    reader: Reader
    rejected: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
