"""Embedding store: rows addressed by the SHA-256 of their content, in immutable Parquet segments.

Layout: ``<root>/<encoder fingerprint>/<image|text>/<segment>.parquet``, see :mod:`semscale.store.segment`. Stored
contents are not encoded again by any study; deleting the folder is always safe.
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

# the address of a row is segment index * this + row index
_MAX_SEGMENT_ROWS = 1 << 32
_MIN_INDEX_BATCH = 1 << 16

_log = logging.getLogger(__name__)


class LostRowsError(StoreError):
    """Stored rows are damaged and have been set aside; encoding them again repairs the store."""

    def __init__(self, folder: Path, n: int) -> None:
        self.folder = folder
        self.n = n
        what = "rows of the embedding store are damaged and have been set aside"
        found = f"{counted(n, 'rows')}, see *.damaged"
        hint = "run the same command again: it encodes only these rows"
        super().__init__(what, where=str(folder), found=found, hint=hint)


class EmbeddingStore:
    """Rows of one encoder and one kind of content: ``<root>/<fingerprint>/<kind>``, local or in an object store."""

    def __init__(self, folder: Path | MirroredDirectory) -> None:
        self._directory = MirroredDirectory.of(folder)
        self.folder = self._directory.local
        self._index = KeyIndex()
        self._segments: list[Path] = []
        self._unusable: set[Path] = set()
        remove_leftovers(self.folder)
        self.refresh()

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, key: bytes) -> bool:
        return bool(self.contains([key])[0])

    def contains(self, keys: Sequence[bytes] | Keys | npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
        """Return for every key whether it is stored."""
        is_stored: npt.NDArray[np.bool_] = self._index.get(as_keys(keys)) != ABSENT
        return is_stored

    def keys(self) -> Keys:
        """Return the keys of all stored rows, sorted."""
        return self._index.keys

    def refresh(self) -> None:
        """Load segments written since the last call, by any process; set damaged ones aside."""
        self._directory.pull_missing("*.parquet")
        known = self._unusable.union(self._segments)
        keys: list[Keys] = []
        rows: list[Int64] = []
        n_new = 0
        for path in sorted(set(self.folder.glob("*.parquet")) - known):
            try:
                segment_keys = self._read(read_keys, path)
            except FileNotFoundError:
                continue  # another sweep has set it aside
            except DamagedSegmentError as error:
                self._set_aside(error)
                continue
            keys.append(segment_keys)
            rows.append(len(self._segments) * _MAX_SEGMENT_ROWS + np.arange(len(segment_keys)))
            self._segments.append(path)
            n_new += len(segment_keys)
            # in batches: sorting millions of keys together takes several times their memory
            if n_new >= max(_MIN_INDEX_BATCH, len(self._index) // 4):
                self._index.add(np.concatenate(keys), np.concatenate(rows))
                keys, rows, n_new = [], [], 0
        if keys:
            self._index.add(np.concatenate(keys), np.concatenate(rows))

    def read(self, keys: Sequence[bytes] | Keys | npt.NDArray[np.void]) -> Float32:
        """Return float32 [len(keys), dimension]; raises KeyError for a missing key, LostRowsError for a damaged row."""
        wanted = as_keys(keys)
        rows = self._index.get(wanted)
        if (rows == ABSENT).any():
            raise KeyError(wanted[rows == ABSENT][0])
        while True:
            try:
                return self._gather(rows)
            except DamagedSegmentError as error:
                self._set_aside(error)
            except FileNotFoundError as error:
                _log.warning("segment %s is gone", error.filename)
            # other segments may have the same rows, and another sweep may have stored them again
            self._index, self._segments = KeyIndex(), []
            self.refresh()
            rows = self._index.get(wanted)
            if (rows == ABSENT).any():
                raise LostRowsError(self.folder, int((rows == ABSENT).sum()))

    def _read(self, read: Callable[[Path], Columns], path: Path) -> Columns:
        """Read a segment; a damaged copy of an object is replaced first."""
        try:
            return read(path)
        except DamagedSegmentError:
            if not self._directory.is_remote:
                raise
            self._directory.pull(path.name)
            return read(path)

    def _gather(self, addresses: Int64) -> Float32:
        segments, rows = addresses // _MAX_SEGMENT_ROWS, addresses % _MAX_SEGMENT_ROWS
        result: Float32 | None = None
        # sorted by segment: a search through all rows per segment would be quadratic
        order = np.argsort(segments, kind="stable")
        for positions in np.split(order, np.flatnonzero(np.diff(segments[order])) + 1) if len(order) else ():
            matrix = self._read(read_rows, self._segments[segments[positions[0]]])
            if result is None:
                result = np.empty((len(addresses), matrix.shape[1]), dtype=np.float32)
            result[positions] = matrix[rows[positions]]
        return np.empty((0, 0), dtype=np.float32) if result is None else result

    def _set_aside(self, error: DamagedSegmentError) -> None:
        damaged = error.path.with_suffix(".damaged")
        _log.warning("damaged segment %s, its rows are encoded again: %s", error.path, error.reason)
        self._unusable.add(error.path)
        try:
            self._directory.rename(error.path.name, damaged.name)
        except (OSError, SemscaleError) as failure:  # another sweep was faster, or the store is read-only
            _log.warning("it cannot be set aside as %s: %s", damaged.name, summarize(failure))
