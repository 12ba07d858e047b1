"""Exact duplicates: images of one content, which count as often as they are listed, and may disagree in class."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from semscale.datasets.samples import Int64, SampleTable
from semscale.datasets.source import Notes


class Duplicates(NamedTuple):
    """Contents that occur more than once, each as the positions of its images.

    Attributes:
        alike: those whose images are all of one class.
        conflicts: those whose images have different classes.
    """

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

    Args:
        samples: the n images.
        keys: V32[n], the SHA-256 of their contents.
        positions: int64[k], ascending, which of them count; all unless given.
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
    """Say in a line each how many images are copies, and which copies have different classes.

    Args:
        samples: the n images.
        keys: V32[n], the SHA-256 of their contents.
    """
    notes, found = Notes(), find_duplicates(samples, keys)
    if found.copies:
        notes.say(f"{found.copies} images are exact copies of others ({found.pictures} pictures more than once)")
    for group in found.conflicts:
        notes.add("pictures are there under different classes", same_picture(samples, group))
    return notes.lines()


def same_picture(samples: SampleTable, group: list[int]) -> str:
    """Name the first images of one content, each with its class."""
    named = [f"{samples[position].file} ({samples[position].true_class})" for position in group[:4]]
    return " = ".join([*named, "..."] if len(group) > 4 else named)
