"""Dataset, image reader, and the raw listing that a loader produces before classes are named and subsets taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from semscale.common.text import counted
from semscale.datasets.samples import SampleTable

_SHOWN = 5

IMAGE_SUFFIXES = (
    ".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png",
    ".pnm", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
"""Endings of image files in a listing; decoding decides whether they are images."""

_ARCHIVE_SUFFIXES = (".7z", ".bz2", ".gz", ".rar", ".tar", ".tbz2", ".tgz", ".txz", ".xz", ".zip", ".zst")


class Reader(Protocol):
    """Image reader: fetches the bytes of an image by its location; small and picklable, since workers read.

    A reader may have an attribute ``parallel: int``: the number of concurrent reads that pay off.
    """

    def read(self, location: str) -> bytes:
        """Return the encoded image (PNG, JPEG, ...). Raises OSError when it cannot be read."""
        ...


@dataclass(frozen=True)
class Dataset:
    """Images with one true class each.

    Attributes:
        name: short name, used in files, runs and tables.
        domain: the hypernym of all classes ("flower"), used by the domain templates of a ladder.
        classes: class names in a stable order.
        samples: the images, in a stable order; a sequence of :class:`semscale.datasets.samples.Sample`.
        reader: fetches the bytes of a sample by its location.
        rejected: file -> reason, for images that the listing already found unusable; part of the quarantine.
        notes: warnings about the listing, a line each.
    """

    name: str
    domain: str
    classes: tuple[str, ...]
    samples: SampleTable
    reader: Reader
    rejected: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def utf8_name(name: str) -> str:
    """Return a file name as valid UTF-8: other bytes become escapes such as ``\\xe9``."""
    return name if name.isascii() else name.encode("utf-8", "backslashreplace").decode()


class ListedImage(NamedTuple):
    """Entry of a listing.

    Attributes:
        file: name of the image in every table, unique within the dataset.
        location: the reader's address of the image; empty if it is the file name.
        label: the class as stored in the source; None if the class is derived from the path.
        reason: why the image cannot be used; None if it can.
    """

    file: str
    location: str = ""
    label: str | None = None
    reason: str | None = None


class ListingWarnings:
    """Warnings about a listing, each kind with its count and the first few names.

    >>> warnings = ListingWarnings()
    >>> for i in range(7):
    ...     warnings.add("images without a class", f"{i}.jpg")
    >>> warnings.lines()
    ['7 images without a class: 0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg, ...']
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, list[str]] = {}
        self._lines: list[str] = []

    def add(self, kind: str, name: str) -> None:
        """Count a name under a kind of warning: a phrase in the plural that follows the count."""
        self._counts[kind] += 1
        first = self._first.setdefault(kind, [])
        if len(first) < _SHOWN:
            first.append(utf8_name(name))

    def add_line(self, line: str) -> None:
        """Add a warning without a count."""
        self._lines.append(line)

    def lines(self) -> list[str]:
        """Return all warnings, a line each."""
        names = {kind: [*first, "..."][: self._counts[kind]] for kind, first in self._first.items()}
        return [*self._lines, *(f"{counted(self._counts[kind], kind)}: {', '.join(names[kind])}" for kind in names)]


def is_image(name: str) -> bool:
    """Return whether a file name has an image's ending."""
    return name[name.rfind(".") :].lower() in IMAGE_SUFFIXES


def accepts_file(name: str, warnings: ListingWarnings) -> bool:
    """Return whether a file is an image by its ending, and warn about others, and about nested archives."""
    if is_image(name):
        return True
    is_archive = name[name.rfind(".") :].lower() in _ARCHIVE_SUFFIXES
    warnings.add("archives inside are not opened" if is_archive else "files have no image's ending", name)
    return False


@dataclass(frozen=True)
class DatasetOptions:
    """Options of a dataset besides its spec; see :func:`~.loader_registry.load_dataset`."""

    split: str | None = None
    image: str | None = None
    label: str | None = None
    images: str | None = None
    class_from: str | None = None
    name: str | None = None
    domain: str | None = None
    classes: Mapping[str, str | None] | Sequence[str] | str | None = None
    limit: int | None = None
    per_class: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class DatasetListing:
    """Raw listing of an opened dataset, read lazily.

    Attributes:
        name: short name, derived from the path.
        reader: fetches the bytes of an image by its location.
        entries: the listed images; an iterator that is consumed once.
        warnings: filled while the entries are read.
        classes: the class names in the source's order, if it states them; labels are these names or their indices.
        domain: the hypernym of all classes, if the source states it.
        class_from_folder: entries have no labels; the class is a folder of the path.
        strip_common_prefix: ignore folders that all images share (the top folder of an archive).
    """

    name: str
    reader: Reader
    entries: Iterable[ListedImage]
    warnings: ListingWarnings = field(default_factory=ListingWarnings)
    classes: tuple[str, ...] | None = None
    domain: str | None = None
    class_from_folder: bool = False
    strip_common_prefix: bool = False
