"""The embedding store: rows addressed by the SHA-256 of what they encode, kept in immutable Parquet segments.

Layout: ``<root>/<encoder fingerprint>/<image|text>/<segment>.parquet``, see :mod:`semscale.encoding.segment`. A segment
is written beside its place and renamed into it, or put into the object store at once (:mod:`semscale.encoding.folder`),
so that a reader or a second sweep sees all of it or nothing. One that
is damaged is set aside as ``.damaged``, whenever that shows, and its rows are encoded again. Whatever is in the store
is never encoded again, by any study; deleting the folder is always safe.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from semscale.encoding.folder import Folder
from semscale.encoding.key_index import ABSENT, Keys, KeyTable, as_keys
from semscale.encoding.segment import DamagedSegmentError, Float32, read_keys, read_rows, remove_leftovers
from semscale.errors import SemscaleError

Kind = Literal["image", "text"]

# a row's place is its segment's number times this plus its number within the segment
_ROWS = 1 << 32
_AT_ONCE = 1 << 16

_log = logging.getLogger(__name__)


class LostRowsError(SemscaleError):
    """Rows that were in the store are damaged; they have been set aside, and encoding them again mends it.

    Args:
        folder: the store's folder.
        n: how many of the wanted rows are gone.
    """

    def __init__(self, folder: Path, n: int) -> None:
        self.folder = folder
        self.n = n
        super().__init__(
            "rows of the embedding store are damaged and have been set aside",
            where=str(folder),
            found=f"{n} rows are missing now, see *.damaged",
            hint="give the same command again: it encodes these rows again, and nothing else",
        )

    def __reduce__(self) -> tuple[object, ...]:
        return LostRowsError, (self.folder, self.n)


class EmbeddingStore:
    """The rows of one encoder and one kind of content.

    Args:
        folder: ``<root>/<fingerprint>/<kind>``, here or in an object store; made when the first segment is written.

    Attributes:
        folder: where the segments lie on this machine.
    """

    def __init__(self, folder: Path | Folder) -> None:
        self._place = Folder.of(folder)
        self.folder = self._place.local
        self._table = KeyTable()
        self._segments: list[Path] = []
        self._seen: set[Path] = set()
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

    def refresh(self) -> int:
        """Take notice of the segments that were written since, by this process or another; return how many are damaged.

        Raises:
            SemscaleError: the folder cannot be read.
        """
        self._place.pull("*.parquet")
        keys: list[Keys] = []
        places: list[npt.NDArray[np.int64]] = []
        damaged = new = 0
        for path in sorted(self.folder.glob("*.parquet")):
            if path in self._seen or path in self._unusable:
                continue
            try:
                column = self._keys(path)
            except FileNotFoundError:
                continue  # another sweep has just set it aside
            except DamagedSegmentError as error:
                self._set_aside(error)
                damaged += 1
                continue
            self._seen.add(path)
            keys.append(column)
            places.append(len(self._segments) * _ROWS + np.arange(len(column)))
            self._segments.append(path)
            new += len(column)
            # in parts: sorting millions of keys at once takes several times their memory
            if new >= max(_AT_ONCE, len(self._table) // 4):
                self._table.add(np.concatenate(keys), np.concatenate(places))
                keys, places, new = [], [], 0
        if keys:
            self._table.add(np.concatenate(keys), np.concatenate(places))
        return damaged

    def read(self, keys: Sequence[bytes] | Keys | npt.NDArray[np.void]) -> Float32:
        """Return the embeddings of these contents, float32 [len(keys), dimension], in the order of the keys.

        Raises:
            KeyError: a key is not in the store.
            LostRowsError: a row was in the store and is damaged.
        """
        wanted = as_keys(keys)
        places = self._table.get(wanted)
        if (places == ABSENT).any():
            raise KeyError(wanted[places == ABSENT][0])
        while True:
            try:
                return self._gather(places)
            except DamagedSegmentError as error:
                if not self._renewed(error.path):
                    self._set_aside(error)
            except FileNotFoundError as error:
                _log.warning("segment %s is gone", error.filename)
            # another sweep may have had the same rows, or may have stored them again by now
            self._table, self._segments, self._seen = KeyTable(), [], set()
            self.refresh()
            places = self._table.get(wanted)
            if (places == ABSENT).any():
                raise LostRowsError(self.folder, int((places == ABSENT).sum()))

    def _keys(self, path: Path) -> Keys:
        try:
            return read_keys(path)
        except DamagedSegmentError:
            if not self._renewed(path):
                raise
            return read_keys(path)

    def _renewed(self, path: Path) -> bool:
        """Whether only the copy of an object was damaged; it is replaced."""
        if not self._place.is_remote:
            return False
        self._place.pull_again(path.name)
        try:
            read_keys(path)
        except (DamagedSegmentError, FileNotFoundError):
            return False
        return True

    def _gather(self, places: npt.NDArray[np.int64]) -> Float32:
        segments, rows = places // _ROWS, places % _ROWS
        result: Float32 | None = None
        # sorted once: a look at all places for every segment would take for ever with thousands of segments
        order = np.argsort(segments, kind="stable")
        for here in np.split(order, np.flatnonzero(np.diff(segments[order])) + 1) if len(order) else ():
            matrix = read_rows(self._segments[segments[here[0]]])
            if result is None:
                result = np.empty((len(places), matrix.shape[1]), dtype=np.float32)
            result[here] = matrix[rows[here]]
        return np.empty((0, 0), dtype=np.float32) if result is None else result

    def _set_aside(self, error: DamagedSegmentError) -> None:
        damaged = error.path.with_suffix(".damaged")
        _log.warning("damaged segment %s, its rows are encoded again: %s", error.path, error.reason)
        self._unusable.add(error.path)
        try:
            self._place.rename(error.path.name, damaged.name)
        except OSError as failed:  # another sweep was faster, or the store is read-only; it is not used again here
            _log.warning("it cannot be set aside as %s: %s", damaged.name, failed.strerror)
