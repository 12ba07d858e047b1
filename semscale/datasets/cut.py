"""Choosing some of the images: stratified, seeded, and the same on every machine."""

from __future__ import annotations

import hashlib

import numpy as np

from semscale.datasets.samples import Int32, Int64, SampleTable


def cut(samples: SampleTable, *, limit: int | None = None, per_class: int | None = None, seed: int = 0) -> SampleTable:
    """Keep some of the images, in their old order.

    Which images stay depends on their file names and the seed alone, by SHA-256; a larger cut contains a smaller one
    of the same kind.

    Args:
        samples: the images.
        limit: at most this many; each class keeps its share (largest remainders), but at least one where there is room.
        per_class: at most this many of each class; applied before the limit.
        seed: another seed chooses others.
    """
    if limit is None and per_class is None:
        return samples
    turn = _turns(samples, seed)
    sizes = np.bincount(samples.class_index, minlength=len(samples.classes))
    if per_class is not None:
        sizes = np.minimum(sizes, per_class)
    if limit is not None and limit < sizes.sum():
        sizes = _shares(sizes, limit)
    return samples.pick(np.flatnonzero(turn < sizes[samples.class_index]))


def _turns(samples: SampleTable, seed: int) -> Int64:
    """Return int64[n]: when each image's turn comes within its class."""
    keys = np.empty(len(samples), dtype=np.uint64)
    for start in range(0, len(samples), 65_536):
        names = samples.files(start, min(start + 65_536, len(samples)))
        digests = b"".join(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8] for name in names)
        keys[start : start + len(names)] = np.frombuffer(digests, dtype=">u8")
    order = np.lexsort((keys, samples.class_index))
    owners = samples.class_index[order]
    starts = np.searchsorted(owners, owners, side="left")
    turns = np.empty(len(samples), dtype=np.int64)
    turns[order] = np.arange(len(samples)) - starts
    return turns


def _shares(sizes: Int64 | Int32, limit: int) -> Int64:
    """Return how many of `limit` images each class keeps.

    >>> _shares(np.array([90, 9, 1]), 10).tolist(), _shares(np.array([5, 5, 5]), 2).tolist()
    ([8, 1, 1], [1, 1, 0])
    """
    present = sizes > 0
    least = np.where(present, 1, 0) if limit >= present.sum() else np.zeros_like(sizes)
    exact = sizes * (limit / sizes.sum())
    shares: Int64 = np.maximum(np.floor(exact).astype(np.int64), least)
    # whoever is furthest below its exact share goes first, and above it last; ties to the earlier class
    while (missing := limit - int(shares.sum())) != 0:
        step = 1 if missing > 0 else -1
        free = shares < sizes if missing > 0 else shares > least
        gap = np.where(free, step * (exact - shares), -np.inf)
        chosen = np.argsort(-gap, kind="stable")[: min(abs(missing), int(free.sum()))]
        shares[chosen] += step
    return shares
