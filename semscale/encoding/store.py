"""The embedding store: rows addressed by the SHA-256 of what they encode, kept in immutable Parquet segments.

Layout: ``<root>/<encoder fingerprint>/<image|text>/<segment>.parquet`` with the columns ``sha256`` (32 bytes) and
``embedding`` (float32, unit length). A segment is written beside its place and renamed into it, so that a reader or a
second sweep sees all of it or nothing; Parquet's page checksums notice a damaged one. Whatever is in the store is never
encoded again, by any study; deleting the folder is always safe.
"""

from __future__ import annotations

import contextlib
import logging
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from semscale.encoding.keys import ABSENT, Keys, KeyTable, as_keys
from semscale.errors import SemscaleError

Kind = Literal["image", "text"]
Float32 = npt.NDArray[np.float32]

# a row's place is its segment's number times this plus its number within the segment
_ROWS = 1 << 32

_log = logging.getLogger(__name__)


class EmbeddingStore:
    """The rows of one encoder and one kind of content.

    Args:
        folder: ``<root>/<fingerprint>/<kind>``; made when the first segment is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._table = KeyTable()
        self._segments: list[Path] = []
        self._seen: set[Path] = set()
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
        """Take notice of the segments that were written since, by this process or another."""
        keys: list[Keys] = []
        places: list[npt.NDArray[np.int64]] = []
        for path in sorted(self.folder.glob("*.parquet")):
            if path in self._seen:
                continue
            try:
                column = _digests(_read(path, "sha256"))
                _read(path, "embedding")  # the page checksums are only looked at by reading
            except (pa.ArrowException, OSError) as error:
                _set_aside(path, error)
                continue
            self._seen.add(path)
            keys.append(column)
            places.append(len(self._segments) * _ROWS + np.arange(len(column)))
            self._segments.append(path)
        if keys:
            self._table.add(np.concatenate(keys), np.concatenate(places))

    def read(self, keys: Sequence[bytes] | Keys | npt.NDArray[np.void]) -> Float32:
        """Return the embeddings of these contents, float32 [len(keys), dimension], in the order of the keys.

        Raises:
            KeyError: a key is not in the store.
        """
        wanted = as_keys(keys)
        places = self._table.get(wanted)
        if (places == ABSENT).any():
            raise KeyError(wanted[places == ABSENT][0])
        segments, rows = places // _ROWS, places % _ROWS
        result: Float32 | None = None
        for segment in np.unique(segments):
            matrix = _matrix(_read(self._segments[segment], "embedding"))
            if result is None:
                result = np.empty((len(wanted), matrix.shape[1]), dtype=np.float32)
            here = segments == segment
            result[here] = matrix[rows[here]]
        return np.empty((0, 0), dtype=np.float32) if result is None else result


def write_segment(folder: Path, keys: Sequence[bytes], embeddings: Float32) -> Path:
    """Add rows to a store, all or none.

    Args:
        folder: the store's folder.
        keys: SHA-256 digests, one per row.
        embeddings: unit-length float32 rows [len(keys), dimension].

    Raises:
        SemscaleError: the folder cannot be written, or the disk is full.
    """
    dimension = embeddings.shape[1]
    values = pa.array(np.ascontiguousarray(embeddings, dtype=np.float32).reshape(-1))
    table = pa.table(
        {
            "sha256": pa.array(list(keys), type=pa.binary(32)),
            "embedding": pa.FixedSizeListArray.from_arrays(values, dimension),
        }
    )
    path = folder / f"{uuid.uuid4().hex}.parquet"
    partial = path.with_suffix(".partial")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # float noise does not compress; the checksums are what finds a flipped bit later
        pq.write_table(table, partial, compression="NONE", use_dictionary=False, write_page_checksum=True)
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise SemscaleError(
            "the embedding store cannot be written",
            where=str(folder),
            found=str(error),
            hint="free some space, or choose another folder with --store",
        ) from error
    return path


def _read(path: Path, column: str) -> pa.ChunkedArray:
    return pq.read_table(path, columns=[column], page_checksum_verification=True).column(0)


def _digests(column: pa.ChunkedArray) -> Keys:
    return np.concatenate(
        [np.empty(0, dtype="S32")]
        + [np.frombuffer(chunk.buffers()[1], "S32", len(chunk), 32 * chunk.offset) for chunk in column.chunks]
    )


def _matrix(column: pa.ChunkedArray) -> Float32:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0)
    rows: Float32 = array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), -1)
    return rows


def _set_aside(path: Path, error: Exception) -> None:
    damaged = path.with_suffix(".damaged")
    _log.warning("damaged segment %s set aside as %s, its rows are encoded again: %s", path, damaged.name, error)
    os.replace(path, damaged)
