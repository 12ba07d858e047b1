"""Exact duplicates: images of one content, which count as often as they are listed, and may disagree in class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semscale.datasets.samples import Int64, SampleTable
from semscale.datasets.source import Notes


@dataclass(frozen=True)
class Duplicates:
    """The contents that occur more than once among some samples, each as the positions of its images.

    Attributes:
        alike: those whose images are all of one class.
        conflicts: those whose images have different classes.
    """

    alike: list[Int64]
    conflicts: list[Int64]

    @property
    def pictures(self) -> int:
        """How many pictures there are more than once."""
        return len(self.alike) + len(self.conflicts)

    @property
    def copies(self) -> int:
        """How many images there are beyond the first of each picture."""
        return sum(len(group) - 1 for group in [*self.alike, *self.conflicts])


def duplicate_groups(keys: NDArray[np.void]) -> Iterator[Int64]:
    """Give the positions of each content that occurs more than once, in the order of their first images.

    Args:
        keys: V32[n], per image the SHA-256 of its content.

    >>> [group.tolist() for group in duplicate_groups(np.array([b"b", b"a", b"b", b"c"], dtype="V32"))]
    [[0, 2]]
    """
    words = np.ascontiguousarray(keys).view("<u8").reshape(-1, 4)
    order = np.lexsort((np.arange(len(words)), *words.T))
    same = np.r_[False, (words[order][1:] == words[order][:-1]).all(axis=1)] if len(words) else np.zeros(0, np.bool_)
    starts = np.flatnonzero(~same)
    sizes = np.diff(starts, append=len(order))
    groups = [order[starts[i] : starts[i] + sizes[i]] for i in np.flatnonzero(sizes > 1)]
    yield from sorted(groups, key=lambda group: int(group[0]))


def find_duplicates(samples: SampleTable, keys: NDArray[np.void]) -> Duplicates:
    """Return the contents that occur more than once.

    Args:
        samples: the n images.
        keys: V32[n], the SHA-256 of their contents.
    """
    found = Duplicates([], [])
    for group in duplicate_groups(keys):
        owners = samples.class_index[group]
        (found.alike if (owners == owners[0]).all() else found.conflicts).append(group)
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


def same_picture(samples: SampleTable, group: Int64) -> str:
    """Name the first images of one content, each with its class."""
    named = [samples[int(position)] for position in group[:4]]
    said = " = ".join(f"{sample.file} ({sample.true_class})" for sample in named)
    return f"{said} = ..." if len(group) > len(named) else said
