"""Embedding store: rows addressed by the SHA-256 of what they encode, kept in immutable Parquet segments.

Layout: ``<root>/<encoder fingerprint>/<image|text>/<segment>.parquet``, see :mod:`semscale.store.segment`. Whatever
is in the store is never encoded again, by any study; deleting the folder is always safe.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from semscale.common.errors import SemscaleError, StoreError, summarize
from semscale.common.text import counted
from semscale.store.key_index import ABSENT, Int64, KeyIndex, Keys, as_keys
from semscale.store.mirrored_directory import MirroredDirectory
from semscale.store.segment import DamagedSegmentError, Float32, read_keys, read_rows, remove_leftovers

Kind = Literal["image", "text"]
Columns = TypeVar("Columns")

# a row's address is its segment's number times this plus its number within the segment
_ROWS = 1 << 32
_AT_ONCE = 1 << 16

_log = logging.getLogger(__name__)


class LostRowsError(StoreError):
    """Rows that were in the store are damaged and have been set aside; encoding them again mends it."""

    def __init__(self, folder: Path, n: int) -> None:
        self.folder = folder
        self.n = n
        what = "rows of the embedding store are damaged and have been set aside"
        found = f"{counted(n, 'rows')}, see *.damaged"
        hint = "give the same command again: it encodes these rows again, and nothing else"
        super().__init__(what, where=str(folder), found=found, hint=hint)

    def __reduce__(self) -> tuple[object, ...]:
        return LostRowsError, (self.folder, self.n)


class EmbeddingStore:
    """The rows of one encoder and one kind of content: ``<root>/<fingerprint>/<kind>``, here or in an object store."""

    def __init__(self, folder: Path | MirroredDirectory) -> None:
        self._place = MirroredDirectory.of(folder)
        self.folder = self._place.local
        self._table = KeyIndex()
        self._segments: list[Path] = []
        self._unusable: set[Path] = set()
        remove_leftovers(self.folder)
        self.refresh()

    def __len__(self) -> int:
        return len(self._table)

    def __contains__(self, key: bytes) -> bool:
        return bool(self.holds([key])[0])

    def holds(self, keys: Sequence[bytes] | Keys | npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
        """Return for every key whether it is in the store."""
        held: npt.NDArray[np.bool_] = self._table.get(as_keys(keys)) != ABSENT
        return held

    def keys(self) -> Keys:
        """Return the SHA-256 digests of everything in the store, sorted."""
        return self._table.keys

    def refresh(self) -> None:
        """Load segments written since the last call, by this process or another; corrupt ones are set aside."""
        self._place.pull("*.parquet")
        known = self._unusable.union(self._segments)
        keys: list[Keys] = []
        rows: list[Int64] = []
        new = 0
        for path in sorted(set(self.folder.glob("*.parquet")) - known):
            try:
                column = self._checked(read_keys, path)
            except FileNotFoundError:
                continue  # another sweep has just set it aside
            except DamagedSegmentError as error:
                self._set_aside(error)
                continue
            keys.append(column)
            rows.append(len(self._segments) * _ROWS + np.arange(len(column)))
            self._segments.append(path)
            new += len(column)
            # in parts: sorting millions of keys at once takes several times their memory
            if new >= max(_AT_ONCE, len(self._table) // 4):
                self._table.add(np.concatenate(keys), np.concatenate(rows))
                keys, rows, new = [], [], 0
        if keys:
            self._table.add(np.concatenate(keys), np.concatenate(rows))

    def read(self, keys: Sequence[bytes] | Keys | npt.NDArray[np.void]) -> Float32:
        """Return float32 [len(keys), dimension]; KeyError for a key that was never stored, else LostRowsError."""
        wanted = as_keys(keys)
        rows = self._table.get(wanted)
        if (rows == ABSENT).any():
            raise KeyError(wanted[rows == ABSENT][0])
        while True:
            try:
                return self._gather(rows)
            except DamagedSegmentError as error:
                self._set_aside(error)
            except FileNotFoundError as error:
                _log.warning("segment %s is gone", error.filename)
            # another sweep may have had the same rows, or may have stored them again by now
            self._table, self._segments = KeyIndex(), []
            self.refresh()
            rows = self._table.get(wanted)
            if (rows == ABSENT).any():
                raise LostRowsError(self.folder, int((rows == ABSENT).sum()))

    def _checked(self, read: Callable[[Path], Columns], path: Path) -> Columns:
        """Read a segment; where it is the copy of an object, a damaged one is replaced first."""
        try:
            return read(path)
        except DamagedSegmentError:
            if not self._place.is_remote:
                raise
            self._place.pull_again(path.name)
            return read(path)

    def _gather(self, addresses: Int64) -> Float32:
        segments, rows = addresses // _ROWS, addresses % _ROWS
        result: Float32 | None = None
        # sorted once: a look at all rows for every segment would take for ever with thousands of segments
        order = np.argsort(segments, kind="stable")
        for here in np.split(order, np.flatnonzero(np.diff(segments[order])) + 1) if len(order) else ():
            matrix = self._checked(read_rows, self._segments[segments[here[0]]])
            if result is None:
                result = np.empty((len(addresses), matrix.shape[1]), dtype=np.float32)
            result[here] = matrix[rows[here]]
        return np.empty((0, 0), dtype=np.float32) if result is None else result

    def _set_aside(self, error: DamagedSegmentError) -> None:
        damaged = error.path.with_suffix(".damaged")
        _log.warning("damaged segment %s, its rows are encoded again: %s", error.path, error.reason)
        self._unusable.add(error.path)
        try:
            self._place.rename(error.path.name, damaged.name)
        except (OSError, SemscaleError) as failed:  # another sweep was faster, or the store is read-only
            _log.warning("it cannot be set aside as %s: %s", damaged.name, summarize(failed))
