"""Sample table: a sequence of samples backed by Arrow columns, and stratified subsets of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

_BATCH = 65_536
_SCHEMA = pa.schema([("file", pa.string()), ("location", pa.string())])


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a dataset: its name, unique in all tables, its class, and its location, by default the name."""

    file: str
    true_class: str
    location: str = ""

    def __post_init__(self) -> None:
        if not self.location:
            object.__setattr__(self, "location", self.file)


def listing_table(rows: Iterable[tuple[str, str]]) -> pa.Table:
    """Return (file, location) of a listing as a table of two columns; an empty location is the file itself."""
    iterator, batches = iter(rows), []
    while batch := list(islice(iterator, _BATCH)):
        arrays = [pa.array(column, pa.string()) for column in zip(*batch, strict=True)]
        batches.append(pa.record_batch(arrays, schema=_SCHEMA))
    return pa.Table.from_batches(batches, _SCHEMA)


def file_names(table: pa.Table) -> Iterator[str]:
    """Yield the file names of a listing with one batch of them in memory."""
    for chunk in table.column("file").chunks:
        yield from chunk.to_pylist()


class SampleTable(Sequence[Sample]):
    """Images of a dataset; rows become :class:`Sample` objects on access.

    Args:
        classes: the class names.
        table: the columns ``file`` and ``location``.
        class_index: int32[n], the index of each sample's class.
        rows: int64[n], the rows of the table that are samples; all by default.
    """

    def __init__(self, classes: Sequence[str], table: pa.Table, class_index: Int32, rows: Int64 | None = None) -> None:
        self.classes = tuple(classes)
        self.class_index = class_index
        self._table = table
        self._rows = rows

    @classmethod
    def of(cls, classes: Sequence[str], samples: Iterable[Sample]) -> SampleTable:
        """Return a table of existing samples."""
        indices = {name: index for index, name in enumerate(classes)}
        rows = list(samples)
        table = listing_table((row.file, "" if row.location == row.file else row.location) for row in rows)
        return cls(classes, table, np.array([indices[row.true_class] for row in rows], dtype=np.int32))

    def __len__(self) -> int:
        return len(self.class_index)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> SampleTable: ...
    def __getitem__(self, index: int | slice) -> Sample | SampleTable:
        if isinstance(index, slice):
            return self.pick(np.arange(len(self))[index])
        position = range(len(self))[index]
        return next(self._samples(position, position + 1))

    def __iter__(self) -> Iterator[Sample]:
        for start in range(0, len(self), _BATCH):
            yield from self._samples(start, min(start + _BATCH, len(self)))

    def files(self, start: int = 0, stop: int | None = None) -> list[str]:
        """Return the file names of samples start to stop."""
        return list(self._slice(start, stop).column("file").to_pylist())

    def locations(self, start: int = 0, stop: int | None = None) -> list[str]:
        """Return the locations of samples start to stop."""
        columns = self._slice(start, stop).to_pydict()
        return [location or file for file, location in zip(columns["file"], columns["location"], strict=True)]

    def pick(self, positions: Int64) -> SampleTable:
        """Return the samples at these positions, in this order."""
        rows = positions if self._rows is None else self._rows[positions]
        return SampleTable(self.classes, self._table, self.class_index[positions], rows)

    def _slice(self, start: int, stop: int | None) -> pa.Table:
        stop = len(self) if stop is None else stop
        if self._rows is None:
            return self._table.slice(start, stop - start)
        return self._table.take(pa.array(self._rows[start:stop]))

    def _samples(self, start: int, stop: int) -> Iterator[Sample]:
        columns, indices = self._slice(start, stop).to_pydict(), self.class_index[start:stop]
        for file, location, index in zip(columns["file"], columns["location"], indices, strict=True):
            yield Sample(file, self.classes[index], location)


def stratified_subset(
    samples: SampleTable, *, limit: int | None = None, per_class: int | None = None, seed: int = 0
) -> SampleTable:
    """Return at most `per_class` images of each class and then `limit` in all, in the original order.

    Each class keeps its share of the limit (largest remainders), but at least one image if the limit allows it. The
    choice depends only on the file names and the seed (SHA-256); a larger subset contains a smaller one.
    """
    if limit is None and per_class is None:
        return samples
    sizes = np.bincount(samples.class_index, minlength=len(samples.classes))
    if per_class is not None:
        sizes = np.minimum(sizes, per_class)
    if limit is not None and limit < sizes.sum():
        sizes = _shares(sizes, limit)
    return samples.pick(np.flatnonzero(_rank_within_class(samples, seed) < sizes[samples.class_index]))


def _rank_within_class(samples: SampleTable, seed: int) -> Int64:
    """Return int64[n], the rank of each image within its class by the hash of its name."""
    keys = np.empty(len(samples), dtype=np.uint64)
    for start in range(0, len(samples), _BATCH):
        names = samples.files(start, min(start + _BATCH, len(samples)))
        digests = b"".join(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8] for name in names)
        keys[start : start + len(names)] = np.frombuffer(digests, dtype=">u8")
    order = np.lexsort((keys, samples.class_index))
    sorted_classes = samples.class_index[order]
    ranks = np.empty(len(samples), dtype=np.int64)
    ranks[order] = np.arange(len(samples)) - np.searchsorted(sorted_classes, sorted_classes, side="left")
    return ranks


def _shares(sizes: Int64 | Int32, limit: int) -> Int64:
    """Return how many of `limit` images each class keeps.

    >>> _shares(np.array([90, 9, 1]), 10).tolist(), _shares(np.array([5, 5, 5]), 2).tolist()
    ([8, 1, 1], [1, 1, 0])
    """
    present = sizes > 0
    minimum = np.where(present, 1, 0) if limit >= present.sum() else np.zeros_like(sizes)
    exact = sizes * (limit / sizes.sum())
    shares: Int64 = np.maximum(np.floor(exact).astype(np.int64), minimum)
    # the class furthest below its exact share gains first, the one furthest above loses first; ties: the earlier class
    while (missing := limit - int(shares.sum())) != 0:
        step = 1 if missing > 0 else -1
        free = shares < sizes if missing > 0 else shares > minimum
        gap = np.where(free, step * (exact - shares), -np.inf)
        chosen = np.argsort(-gap, kind="stable")[: min(abs(missing), int(free.sum()))]
        shares[chosen] += step
    return shares
