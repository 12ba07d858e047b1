"""Exact duplicates: images of one content, which count as often as they are listed, and may disagree in class."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from semscale.datasets.samples import Int64, SampleTable
from semscale.datasets.source import Notes


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
    groups = np.split(order, np.flatnonzero(~same)) if len(order) else []
    yield from sorted((group for group in groups if len(group) > 1), key=lambda group: int(group[0]))


def duplicate_notes(samples: SampleTable, keys: NDArray[np.void]) -> list[str]:
    """Say in a line each how many images are copies, and which copies have different classes.

    Args:
        samples: the n images.
        keys: V32[n], the SHA-256 of their contents.
    """
    notes, copies, n_groups = Notes(), 0, 0
    for group in duplicate_groups(keys):
        copies += len(group) - 1
        n_groups += 1
        if len(set(samples.class_index[group].tolist())) > 1:
            named = [samples[int(position)] for position in group[:4]]
            said = " = ".join(f"{sample.file} ({sample.true_class})" for sample in named)
            notes.add("pictures are there under different classes", said)
    if copies:
        notes.say(f"{copies} images are exact copies of others ({n_groups} pictures more than once)")
    return notes.lines()
