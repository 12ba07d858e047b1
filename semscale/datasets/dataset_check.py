"""Dataset check: reads and decodes every image as a study would, and finds exact duplicates."""

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
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semscale.common.filesystem import read_with_retries
from semscale.common.text import counted
from semscale.datasets.dataset import Dataset, ListingWarnings, Reader
from semscale.datasets.image_decoding import BadImageError, exif_orientation, load, to_eight_bit
from semscale.datasets.samples import Int32, Int64, Sample, SampleTable

SMALL_SIDE = 32
"""Pixels; common models enlarge an image with a shorter side at least sevenfold."""

LONG_RATIO = 4
"""Aspect ratio above which the centre crop discards most of an image."""

_BATCH = 512  # images in flight
_MAX_THREADS = 64


class Duplicates(NamedTuple):
    """Groups of images with equal bytes, each as their positions: of one class, and of conflicting classes."""

    same_class: list[list[int]]
    conflicts: list[list[int]]

    @property
    def n_groups(self) -> int:
        """Number of contents that occur more than once."""
        return len(self.same_class) + len(self.conflicts)

    @property
    def copies(self) -> int:
        """Number of images beyond the first of each group."""
        return sum(len(group) - 1 for group in [*self.same_class, *self.conflicts])


def find_duplicates(samples: SampleTable, keys: NDArray[np.void], positions: Int64 | None = None) -> Duplicates:
    """Return the groups of images with equal bytes, in the order of their first images.

    `keys` is V32[n], the SHA-256 of the contents; `positions` int64[k], ascending, selects images, all by default.
    """
    positions = np.arange(len(samples)) if positions is None else positions
    selected = np.ascontiguousarray(keys[positions]).view("S32")
    _, content, counts = np.unique(selected, return_inverse=True, return_counts=True)
    repeated = np.flatnonzero(counts[content] > 1)
    groups: dict[int, list[int]] = {}
    for number, position in zip(content[repeated].tolist(), positions[repeated].tolist(), strict=True):
        groups.setdefault(number, []).append(position)
    duplicates = Duplicates([], [])
    for group in groups.values():
        is_conflict = len(set(samples.class_index[group].tolist())) > 1
        (duplicates.conflicts if is_conflict else duplicates.same_class).append(group)
    return duplicates


def duplicate_warnings(samples: SampleTable, keys: NDArray[np.void]) -> list[str]:
    """Return warnings about copies, by the images' SHA-256, V32[n], a line each; conflicting classes are named."""
    warnings, duplicates = ListingWarnings(), find_duplicates(samples, keys)
    if duplicates.copies:
        pictures = counted(duplicates.n_groups, "pictures")
        warnings.add_line(f"{counted(duplicates.copies, 'exact copies')} of other images ({pictures} more than once)")
    for group in duplicates.conflicts:
        warnings.add("pictures have several classes", format_duplicates(samples, group))
    return warnings.lines()


def format_duplicates(samples: SampleTable, group: list[int]) -> str:
    """Return the first images of a group of duplicates as text, each with its class."""
    names = [f"{samples[position].file} ({samples[position].true_class})" for position in group[:4]]
    return " = ".join([*names, "..."] if len(group) > 4 else names)


class ImageInfo(NamedTuple):
    """Result of reading one image: SHA-256 of the file if it can be read, and why the image cannot be used.

    `multi_frame`: only the first frame is used (animations, pages). `rotated`: the EXIF tag asks for another
    orientation than the stored one. `transparent`: models see the colours beneath the transparency.
    """

    key: bytes | None
    reason: str | None
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    format: str = ""
    multi_frame: bool = False
    rotated: bool = False
    transparent: bool = False


@dataclass
class DatasetCheck:
    """Result of reading all n samples of a dataset.

    Attributes:
        keys: V32[n], SHA-256 of each file; zeros for unreadable files.
        sizes: int32[n, 2], width and height in pixels; zeros for unusable images.
        reasons: sample position -> why the image cannot be used.
        counts: attribute of `ImageInfo` -> value -> number of usable images.
    """

    dataset: Dataset
    keys: NDArray[np.void]
    sizes: Int32
    reasons: dict[int, str] = field(default_factory=dict)
    counts: dict[str, Counter[Any]] = field(default_factory=lambda: defaultdict(Counter))

    def record(self, position: int, info: ImageInfo) -> None:
        """Add the result of one image."""
        if info.key is not None:
            self.keys[position] = np.void(info.key)
        if info.reason is not None:
            self.reasons[position] = sys.intern(info.reason)  # a million bad images have few different reasons
            return
        self.sizes[position] = info.size
        for name in ("mode", "format", "multi_frame", "rotated", "transparent"):
            self.counts[name][getattr(info, name)] += 1

    @cached_property
    def positions(self) -> Int64:
        """Positions of the usable samples, int64[k], ascending."""
        return np.flatnonzero(self.sizes[:, 0])

    @cached_property
    def quarantine(self) -> dict[str, str]:
        """File -> reason, for images that the listing rejected or that cannot be decoded."""
        samples = self.dataset.samples
        return {**self.dataset.rejected, **{samples[i].file: reason for i, reason in self.reasons.items()}}

    @property
    def n_images(self) -> int:
        """Number of listed images, rejected ones included."""
        return len(self.dataset.samples) + len(self.dataset.rejected)

    @cached_property
    def duplicates(self) -> Duplicates:
        """Usable images with equal bytes, as positions among all samples."""
        return find_duplicates(self.dataset.samples, self.keys, self.positions)

    def max_bad(self, max_bad_fraction: float) -> int:
        """Return how many bad images a study would accept."""
        return math.floor(max_bad_fraction * self.n_images)

    def passes(self, max_bad_fraction: float) -> bool:
        """Return whether a study would accept the dataset."""
        return len(self.quarantine) <= self.max_bad(max_bad_fraction) and len(self.positions) > 0

    def class_counts(self) -> tuple[Int64, Int64]:
        """Return per class, int64[classes] each, the number of usable images and of those that cannot be decoded."""
        class_index, n = self.dataset.samples.class_index, len(self.dataset.classes)
        usable = np.bincount(class_index[self.positions], minlength=n)
        return usable, np.bincount(class_index, minlength=n) - usable

    def first_samples(self) -> dict[int, Sample]:
        """Return class index -> first usable sample."""
        classes, first = np.unique(self.dataset.samples.class_index[self.positions], return_index=True)
        return {int(c): self.dataset.samples[int(self.positions[i])] for c, i in zip(classes, first, strict=True)}

    def size_summary(self) -> dict[str, Any] | None:
        """Return the smallest and largest image, the median sides in pixels, and the number of small and long ones."""
        if not len(self.positions):
            return None
        sizes = self.sizes[self.positions].astype(np.int64)
        area, short, long = sizes.prod(axis=1), sizes.min(axis=1), sizes.max(axis=1)

        def image(row: np.intp) -> dict[str, Any]:
            width, height = sizes[row].tolist()
            return {"width": width, "height": height, "file": self.dataset.samples[int(self.positions[row])].file}

        return {
            "smallest": image(np.argmin(area)),
            "median": {"width": int(np.median(sizes[:, 0])), "height": int(np.median(sizes[:, 1]))},
            "largest": image(np.argmax(area)),
            "small": int((short < SMALL_SIDE).sum()),
            "long": int((long > LONG_RATIO * short).sum()),
        }

    def to_json(self, max_bad_fraction: float) -> dict[str, Any]:
        """Return the result as JSON-compatible lists and dictionaries."""
        samples, first, duplicates = self.dataset.samples, self.first_samples(), self.duplicates
        rows = zip(self.dataset.classes, *(counts.tolist() for counts in self.class_counts()), strict=True)

        def rows_of(groups: list[list[int]]) -> list[list[dict[str, str]]]:
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
            "sizes": self.size_summary(),
            "formats": dict(self.counts["format"].most_common()),
            "modes": dict(self.counts["mode"].most_common()),
            "several_pictures": self.counts["multi_frame"][True],
            "turned_by_exif": self.counts["rotated"][True],
            "transparent": self.counts["transparent"][True],
            "duplicates": {
                "copies": duplicates.copies,
                "pictures": duplicates.n_groups,
                "alike": rows_of(duplicates.same_class),
                "conflicts": rows_of(duplicates.conflicts),
            },
            "quarantine": [{"file": file, "reason": reason} for file, reason in self.quarantine.items()],
            "max_bad_fraction": max_bad_fraction,
            "passes": self.passes(max_bad_fraction),
        }


def check_dataset(
    dataset: Dataset, *, threads: int | None = None, progress: Callable[[int, int], None] | None = None
) -> DatasetCheck:
    """Read and decode every image in several threads; `progress` is passed the numbers of done and of all images."""
    n, reader = len(dataset.samples), dataset.reader
    result = DatasetCheck(dataset, np.zeros(n, dtype="V32"), np.zeros((n, 2), dtype=np.int32))
    threads = threads or min(_MAX_THREADS, max(os.cpu_count() or 1, getattr(reader, "parallel", 1)))
    pool = ThreadPoolExecutor(threads)
    try:
        for start in range(0, n, _BATCH):
            locations = dataset.samples.locations(start, min(start + _BATCH, n))
            for position, info in enumerate(pool.map(partial(inspect_image, reader), locations), start):
                result.record(position, info)
                if progress:
                    progress(position + 1, n)
    finally:
        pool.shutdown(cancel_futures=True)
    return result


def inspect_image(reader: Reader, location: str) -> ImageInfo:
    """Read and decode one image as a study would."""
    try:
        content = read_with_retries(reader.read, location)
    except OSError as error:
        return ImageInfo(None, f"cannot be read: {error.strerror or error}")
    key = hashlib.sha256(content).digest()
    try:
        image = load(content)
        to_eight_bit(image)
    except BadImageError as error:
        return ImageInfo(key, str(error))
    multi_frame, transparent = False, "transparency" in image.info
    with suppress(Exception):  # the search for a second frame can fail although the first is intact
        multi_frame = bool(getattr(image, "is_animated", False))
    if "A" in image.getbands():
        transparent = image.getchannel("A").getextrema()[0] < 255  # type: ignore[operator]
    rotated, kind = exif_orientation(image) != 1, image.format or "?"
    return ImageInfo(key, None, image.size, image.mode, kind, multi_frame, rotated, bool(transparent))
