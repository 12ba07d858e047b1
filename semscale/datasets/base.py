"""Datasets: images with one true class each and their reader, and the listing that a loader makes them from."""

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
"""What counts as an image in a listing; whether it is one shows when it is decoded."""

_ARCHIVE_SUFFIXES = (".7z", ".bz2", ".gz", ".rar", ".tar", ".tbz2", ".tgz", ".txz", ".xz", ".zip", ".zst")


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


def as_text(name: str) -> str:
    """Return a file's name as tables can hold it: bytes that are no UTF-8 are written out."""
    return name if name.isascii() else name.encode("utf-8", "backslashreplace").decode()


class Entry(NamedTuple):
    """One line of a listing.

    Attributes:
        file: name of the image in every table, unique within the dataset.
        place: what the reader takes; empty when it is the file itself.
        label: the class as the source has it; None when only the path can tell.
        reason: why the image cannot be used; None when nothing speaks against it.
    """

    file: str
    place: str = ""
    label: str | None = None
    reason: str | None = None


class Notes:
    """Warnings about a listing: kinds of findings, each with its count and the first few names.

    >>> notes = Notes()
    >>> for i in range(7):
    ...     notes.add("images without a class", f"{i}.jpg")
    >>> notes.lines()
    ['7 images without a class: 0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg, ...']
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, list[str]] = {}
        self._said: list[str] = []

    def add(self, kind: str, name: str) -> None:
        """Count a finding of a kind, which reads well after a number: a phrase in the plural."""
        self._counts[kind] += 1
        first = self._first.setdefault(kind, [])
        if len(first) < _SHOWN:
            first.append(as_text(name))

    def say(self, line: str) -> None:
        """Keep a line as it is."""
        self._said.append(line)

    def lines(self) -> list[str]:
        """Return everything, a line each."""
        named = {kind: [*first, "..."][: self._counts[kind]] for kind, first in self._first.items()}
        heads = {kind: counted(self._counts[kind], kind) for kind in named}
        return [*self._said, *(f"{heads[kind]}: {', '.join(names)}" for kind, names in named.items())]


def is_image(name: str) -> bool:
    """Tell whether a name is that of an image."""
    return name[name.rfind(".") :].lower() in IMAGE_SUFFIXES


def takes(name: str, notes: Notes) -> bool:
    """Tell whether a file is an image by its name; other files are noted, archives among them, which never nest."""
    if is_image(name):
        return True
    inside = name[name.rfind(".") :].lower() in _ARCHIVE_SUFFIXES
    notes.add("archives inside are not opened" if inside else "files have no image's ending", name)
    return False


@dataclass(frozen=True)
class Options:
    """What a study file may say about a dataset besides its spec; see :func:`~.loader_registry.load_dataset`."""

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
class Source:
    """An opened dataset, not yet listed.

    Attributes:
        name: short name, from the path.
        reader: fetches the bytes of an image by its place.
        entries: the listing, made while it is read; read once.
        notes: filled while the listing is read.
        classes: the class names in the source's own order, if it has one; labels are among them, or their numbers.
        domain: the word for all classes, if the source knows it.
        by_path: labels are missing, and the folders of the path tell the class.
        peel: folders that all images share say nothing about the class (the top folder of an archive).
    """

    name: str
    reader: Reader
    entries: Iterable[Entry]
    notes: Notes = field(default_factory=Notes)
    classes: tuple[str, ...] | None = None
    domain: str | None = None
    by_path: bool = False
    peel: bool = False
