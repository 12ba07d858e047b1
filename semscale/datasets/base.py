"""What a dataset is: named images with one true class each, and a reader that fetches their bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a dataset.

    Attributes:
        file: the name under which the image appears in every table, unique within its dataset.
        true_class: the class that the image shows, one of the dataset's classes.
    """

    file: str
    true_class: str


@runtime_checkable
class Reader(Protocol):
    """Fetches the bytes of an image by its file name; small and picklable, so that workers do the reading."""

    def read(self, file: str) -> bytes:
        """Return the encoded image (PNG, JPEG, ...). Raises OSError when it cannot be read."""
        ...


@dataclass(frozen=True)
class Dataset:
    """Images with one true class each.

    Attributes:
        name: short name, used in files, runs and tables.
        domain: the word for what all classes are ("flower"), used by the domain templates of a ladder.
        classes: class names in a stable order.
        samples: the images, in a stable order.
        reader: fetches the bytes of a sample.
    """

    name: str
    domain: str
    classes: tuple[str, ...]
    samples: Sequence[Sample]
    reader: Reader
