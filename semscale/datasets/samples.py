"""The table of a dataset's images: a sequence of samples whose names lie in memory-mapped columns, not in objects."""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from semscale.errors import SemscaleError

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

_BATCH = 65_536
_SCHEMA = pa.schema([("file", pa.string()), ("place", pa.string())])


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a dataset.

    Attributes:
        file: the name under which the image appears in every table, unique within its dataset.
        true_class: the class that the image shows, one of the dataset's classes.
        place: where the reader finds it; the file itself unless given.
    """

    file: str
    true_class: str
    place: str = ""

    def __post_init__(self) -> None:
        if not self.place:
            object.__setattr__(self, "place", self.file)


class Spool:
    """Buffer of a listing's rows; beyond 65,536 it spills to a mapped Arrow file that vanishes with the process."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, str]] = []
        self._spilled = 0
        self._path: str | None = None
        self._writer: pa.RecordBatchFileWriter | None = None

    def __len__(self) -> int:
        return self._spilled + len(self._rows)

    def add(self, file: str, place: str = "") -> None:
        """Append a row; an empty place is the file itself.

        Raises:
            SemscaleError: the temporary folder is full.
        """
        self._rows.append((file, place))
        if len(self._rows) == _BATCH:
            self._spill()

    def table(self) -> pa.Table:
        """Return all rows as a table with the columns ``file`` and ``place``; nothing can be added afterwards."""
        if self._writer is None or self._path is None:
            return pa.Table.from_batches([self._batch()], _SCHEMA)
        self._spill()
        self._writer.close()
        table = pa.ipc.open_file(pa.memory_map(self._path)).read_all()
        os.unlink(self._path)  # the mapping keeps it alive, and nothing else should
        return table

    def _batch(self) -> pa.RecordBatch:
        files, places = zip(*self._rows, strict=True) if self._rows else ((), ())
        return pa.record_batch([pa.array(files, pa.string()), pa.array(places, pa.string())], schema=_SCHEMA)

    def _spill(self) -> None:
        try:
            if self._writer is None:
                handle, self._path = tempfile.mkstemp(prefix="semscale-listing-", suffix=".arrow")
                os.close(handle)
                self._writer = pa.ipc.new_file(self._path, _SCHEMA)
            self._writer.write_batch(self._batch())
        except OSError as error:
            if self._path is not None:
                os.unlink(self._path)
            raise SemscaleError(
                "the listing of a dataset cannot be written",
                where=tempfile.gettempdir(),
                found=str(error),
                hint="free some space, or set TMPDIR to a larger place",
            ) from error
        self._spilled += len(self._rows)
        self._rows.clear()


def repeated_rows(table: pa.Table) -> list[int]:
    """Return the rows of a listing whose file name occurs in an earlier row already."""
    files = table.column("file")
    hashes = np.fromiter((hash(file) for chunk in files.chunks for file in chunk.to_pylist()), np.int64, len(table))
    values, counts = np.unique(hashes, return_counts=True)
    seen: set[str] = set()
    repeated = []
    for row in np.flatnonzero(np.isin(hashes, values[counts > 1])).tolist():
        file = files[row].as_py()
        if file in seen:
            repeated.append(row)
        seen.add(file)
    return repeated


class SampleTable(Sequence[Sample]):
    """The images of a dataset; rows become :class:`Sample` objects when they are looked at.

    Args:
        classes: the class names that the indices stand for.
        table: the columns ``file`` and ``place``.
        class_index: int32[n], per sample the index of its class.
        rows: int64[n], which rows of the table are samples; all of them unless given.
    """

    def __init__(self, classes: Sequence[str], table: pa.Table, class_index: Int32, rows: Int64 | None = None) -> None:
        if len(class_index) != (len(table) if rows is None else len(rows)):
            raise ValueError(f"Expected a class index for each sample, but got {len(class_index)}")
        self.classes = tuple(classes)
        self.class_index = class_index
        self._table = table
        self._rows = rows

    @classmethod
    def of(cls, classes: Sequence[str], samples: Iterable[Sample]) -> SampleTable:
        """Make a table of samples that exist already.

        >>> table = SampleTable.of(("cat", "dog"), [Sample("1.png", "dog")])
        >>> len(table), table[0].true_class, table.places()
        (1, 'dog', ['1.png'])
        """
        position = {name: index for index, name in enumerate(classes)}
        spool = Spool()
        indices = array("i")
        for sample in samples:
            spool.add(sample.file, "" if sample.place == sample.file else sample.place)
            indices.append(position[sample.true_class])
        return cls(classes, spool.table(), np.array(indices, dtype=np.int32))

    def __len__(self) -> int:
        return len(self.class_index)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> SampleTable: ...
    def __getitem__(self, index: int | slice) -> Sample | SampleTable:
        if isinstance(index, slice):
            return self.pick(np.arange(len(self))[index])
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        position = index % len(self)
        return next(self._samples(position, position + 1))

    def __iter__(self) -> Iterator[Sample]:
        for start in range(0, len(self), _BATCH):
            yield from self._samples(start, min(start + _BATCH, len(self)))

    def files(self, start: int = 0, stop: int | None = None) -> list[str]:
        """Return the file names of samples start to stop."""
        names: list[str] = self._slice(start, stop).column("file").to_pylist()
        return names

    def places(self, start: int = 0, stop: int | None = None) -> list[str]:
        """Return what the reader takes for samples start to stop."""
        part = self._slice(start, stop)
        files, places = part.column("file").to_pylist(), part.column("place").to_pylist()
        return [place or file for file, place in zip(files, places, strict=True)]

    def pick(self, positions: Int64) -> SampleTable:
        """Return the samples at these positions, in this order."""
        rows = positions if self._rows is None else self._rows[positions]
        return SampleTable(self.classes, self._table, self.class_index[positions], rows)

    def reclassed(self, classes: Sequence[str], class_index: Int32) -> SampleTable:
        """Return the same images with other classes."""
        return SampleTable(classes, self._table, class_index, self._rows)

    def _slice(self, start: int, stop: int | None) -> pa.Table:
        stop = len(self) if stop is None else stop
        if self._rows is None:
            return self._table.slice(start, stop - start)
        return self._table.take(pa.array(self._rows[start:stop]))

    def _samples(self, start: int, stop: int) -> Iterator[Sample]:
        owners = self.class_index[start:stop]
        for file, place, owner in zip(self.files(start, stop), self.places(start, stop), owners, strict=True):
            yield Sample(file, self.classes[owner], place)
