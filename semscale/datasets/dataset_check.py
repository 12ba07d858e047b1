"""Check of a dataset: every image is read and decoded as a study would, and exact duplicates are found."""

from __future__ import annotations

import hashlib
import math
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semscale.common.filesystem import read_again
from semscale.common.text import counted
from semscale.datasets.base import Dataset, Notes, Reader
from semscale.datasets.image_decoding import BadImageError, eight_bit, load, orientation
from semscale.datasets.samples import Int32, Int64, Sample, SampleTable

SMALL_SIDE = 32
"""Pixels: a picture with a shorter side is enlarged sevenfold or more by the usual models."""

LONG_RATIO = 4
"""A picture longer than this many times its width loses most of itself to the centre crop."""

_BATCH = 512  # images under way at a time
_MOST_THREADS = 64


class Duplicates(NamedTuple):
    """Contents that occur more than once, each as the positions of its images, by whether these agree in class."""

    alike: list[list[int]]
    conflicts: list[list[int]]

    @property
    def pictures(self) -> int:
        """Number of pictures that occur more than once."""
        return len(self.alike) + len(self.conflicts)

    @property
    def copies(self) -> int:
        """Number of images beyond the first of each picture."""
        return sum(len(group) - 1 for group in [*self.alike, *self.conflicts])


def find_duplicates(samples: SampleTable, keys: NDArray[np.void], positions: Int64 | None = None) -> Duplicates:
    """Return the contents that occur more than once, in the order of their first images.

    `keys` is V32[n], the SHA-256 of the contents; `positions` int64[k], ascending, says which count, all by default.
    """
    positions = np.arange(len(samples)) if positions is None else positions
    chosen = np.ascontiguousarray(keys[positions]).view("S32")
    _, content, counts = np.unique(chosen, return_inverse=True, return_counts=True)
    repeated = np.flatnonzero(counts[content] > 1)
    groups: dict[int, list[int]] = {}
    for number, position in zip(content[repeated].tolist(), positions[repeated].tolist(), strict=True):
        groups.setdefault(number, []).append(position)
    found = Duplicates([], [])
    for group in groups.values():
        several = len(set(samples.class_index[group].tolist())) > 1
        (found.conflicts if several else found.alike).append(group)
    return found


def duplicate_notes(samples: SampleTable, keys: NDArray[np.void]) -> list[str]:
    """Say in a line each how many images are copies, by V32[n] of SHA-256, and which have different classes."""
    notes, found = Notes(), find_duplicates(samples, keys)
    if found.copies:
        pictures = counted(found.pictures, "pictures")
        notes.say(f"{counted(found.copies, 'exact copies')} of other images ({pictures} more than once)")
    for group in found.conflicts:
        notes.add("pictures are there under different classes", same_picture(samples, group))
    return notes.lines()


def same_picture(samples: SampleTable, group: list[int]) -> str:
    """Name the first images of one content, each with its class."""
    named = [f"{samples[position].file} ({samples[position].true_class})" for position in group[:4]]
    return " = ".join([*named, "..."] if len(group) > 4 else named)


class ImageInfo(NamedTuple):
    """Result of reading one image: SHA-256 of the file if it can be read, and why the image cannot be used.

    A file with `several` pictures (animations, pages) gives its first. A picture to be `turned`, by its EXIF tag, is
    taken as it is stored, and models are shown the colours beneath what is `transparent`.
    """

    key: bytes | None
    reason: str | None
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    format: str = ""
    several: bool = False
    turned: bool = False
    transparent: bool = False


@dataclass
class Examination:
    """Result of reading all n samples of a dataset.

    Attributes:
        keys: V32[n], SHA-256 of each file; zeros where it could not be read.
        sizes: int32[n, 2], width and height in pixels; zeros where the image cannot be used.
        reasons: sample position -> why the image cannot be used.
        counts: attribute of `ImageInfo`, and its value -> number of usable images.
    """

    dataset: Dataset
    keys: NDArray[np.void]
    sizes: Int32
    reasons: dict[int, str] = field(default_factory=dict)
    counts: dict[str, Counter[Any]] = field(default_factory=lambda: defaultdict(Counter))

    def record(self, position: int, info: ImageInfo) -> None:
        """Add what reading one image gave."""
        if info.key is not None:
            self.keys[position] = np.void(info.key)
        if info.reason is not None:
            self.reasons[position] = sys.intern(info.reason)  # a million bad images have few different reasons
            return
        self.sizes[position] = info.size
        for name in ("mode", "format", "several", "turned", "transparent"):
            self.counts[name][getattr(info, name)] += 1

    @cached_property
    def positions(self) -> Int64:
        """The positions of the usable samples, ascending."""
        return np.flatnonzero(self.sizes[:, 0])

    @cached_property
    def quarantine(self) -> dict[str, str]:
        """File -> reason, for what the listing refused and what cannot be decoded."""
        samples = self.dataset.samples
        return {**self.dataset.rejected, **{samples[i].file: reason for i, reason in self.reasons.items()}}

    @property
    def n_images(self) -> int:
        """All images of the listing, refused ones included."""
        return len(self.dataset.samples) + len(self.dataset.rejected)

    @cached_property
    def duplicates(self) -> Duplicates:
        """Which usable images have the same bytes, as positions among all samples."""
        return find_duplicates(self.dataset.samples, self.keys, self.positions)

    def most_bad(self, max_bad_fraction: float) -> int:
        """Return how many images may be bad, as a study counts."""
        return math.floor(max_bad_fraction * self.n_images)

    def passes(self, max_bad_fraction: float) -> bool:
        """Tell whether a study would accept the dataset."""
        return len(self.quarantine) <= self.most_bad(max_bad_fraction) and len(self.positions) > 0

    def class_counts(self) -> tuple[Int64, Int64]:
        """Return per class the usable images and those that cannot be decoded."""
        owners, n = self.dataset.samples.class_index, len(self.dataset.classes)
        usable = np.bincount(owners[self.positions], minlength=n)
        return usable, np.bincount(owners, minlength=n) - usable

    def first_samples(self) -> dict[int, Sample]:
        """Return per class, by its index, its first usable sample."""
        owners, first = np.unique(self.dataset.samples.class_index[self.positions], return_index=True)
        return {int(o): self.dataset.samples[int(self.positions[i])] for o, i in zip(owners, first, strict=True)}

    def size_facts(self) -> dict[str, Any] | None:
        """Return the smallest and the largest picture, the median sides in pixels, and how many are small or long."""
        if not len(self.positions):
            return None
        sizes = self.sizes[self.positions].astype(np.int64)
        area, short, long = sizes.prod(axis=1), sizes.min(axis=1), sizes.max(axis=1)

        def picture(number: np.intp) -> dict[str, Any]:
            width, height = sizes[number].tolist()
            return {"width": width, "height": height, "file": self.dataset.samples[int(self.positions[number])].file}

        return {
            "smallest": picture(np.argmin(area)),
            "median": {"width": int(np.median(sizes[:, 0])), "height": int(np.median(sizes[:, 1]))},
            "largest": picture(np.argmax(area)),
            "small": int((short < SMALL_SIDE).sum()),
            "long": int((long > LONG_RATIO * short).sum()),
        }

    def to_json(self, max_bad_fraction: float) -> dict[str, Any]:
        """Return everything, as plain lists and dictionaries."""
        samples, first, same = self.dataset.samples, self.first_samples(), self.duplicates
        rows = zip(self.dataset.classes, *(counts.tolist() for counts in self.class_counts()), strict=True)

        def named(groups: list[list[int]]) -> list[list[dict[str, str]]]:
            return [[{"file": samples[i].file, "class": samples[i].true_class} for i in group] for group in groups]

        return {
            "dataset": self.dataset.name,
            "domain": self.dataset.domain,
            "images": self.n_images,
            "usable": len(self.positions),
            "notes": list(self.dataset.notes),
            "classes": [
                {"class": name, "images": usable, "quarantined": bad, "sample": first[i].file if i in first else None}
                for i, (name, usable, bad) in enumerate(rows)
            ],
            "sizes": self.size_facts(),
            "formats": dict(self.counts["format"].most_common()),
            "modes": dict(self.counts["mode"].most_common()),
            "several_pictures": self.counts["several"][True],
            "turned_by_exif": self.counts["turned"][True],
            "transparent": self.counts["transparent"][True],
            "duplicates": {"copies": same.copies, "pictures": same.pictures}
            | {"alike": named(same.alike), "conflicts": named(same.conflicts)},
            "quarantine": [{"file": file, "reason": reason} for file, reason in self.quarantine.items()],
            "max_bad_fraction": max_bad_fraction,
            "passes": self.passes(max_bad_fraction),
        }


def examine(
    dataset: Dataset, *, threads: int | None = None, progress: Callable[[int, int], None] | None = None
) -> Examination:
    """Read and decode every image, several at a time; `progress` gets the number of images done, and of all."""
    n, reader = len(dataset.samples), dataset.reader
    result = Examination(dataset, np.zeros(n, dtype="V32"), np.zeros((n, 2), dtype=np.int32))
    threads = threads or min(_MOST_THREADS, max(os.cpu_count() or 1, getattr(reader, "parallel", 1)))
    pool = ThreadPoolExecutor(threads)
    try:
        for start in range(0, n, _BATCH):
            places = dataset.samples.places(start, min(start + _BATCH, n))
            for position, info in enumerate(pool.map(lambda place: inspect_image(reader, place), places), start):
                result.record(position, info)
                if progress:
                    progress(position + 1, n)
    finally:
        pool.shutdown(cancel_futures=True)
    return result


def inspect_image(reader: Reader, place: str) -> ImageInfo:
    """Read and decode one image as a study would."""
    try:
        content = read_again(reader.read, place)
    except OSError as error:
        return ImageInfo(None, f"cannot be read: {error.strerror or error}")
    key = hashlib.sha256(content).digest()
    try:
        image = load(content)
        eight_bit(image)
    except BadImageError as error:
        return ImageInfo(key, str(error))
    several, transparent = False, "transparency" in image.info
    with suppress(Exception):  # looking for a second picture can fail where the first is fine
        several = bool(getattr(image, "is_animated", False))
    if "A" in image.getbands():
        transparent = image.getchannel("A").getextrema()[0] < 255  # type: ignore[operator]
    turned = orientation(image) != 1
    return ImageInfo(key, None, image.size, image.mode, image.format or "?", several, turned, bool(transparent))
