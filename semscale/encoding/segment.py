"""One file of the embedding store: written whole or not at all, and never believed when a single bit has changed.

A segment is a Parquet file with the columns ``sha256`` (32 bytes) and ``embedding`` (float32, unit length). Parquet's
page checksums leave the headers of pages out, so a digest of each column stands in the metadata of the file as well.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from semscale.encoding.folder import Folder
from semscale.encoding.key_index import Keys
from semscale.errors import SemscaleError, cannot_write

Float32 = npt.NDArray[np.float32]

LEFTOVER_S = 86_400.0
"""Writing takes a moment: what is unfinished and older than a day was left by a writer that is dead."""

_UNREADABLE = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ENOTCONN)


class DamagedSegmentError(Exception):
    """A segment does not hold what was written; nobody's mistake, so whoever reads has to go on without it."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason


def write_segment(folder: Path | Folder, keys: Sequence[bytes], embeddings: Float32) -> Path:
    """Add rows to a store, all or none.

    Args:
        folder: the store's folder, here or in an object store.
        keys: SHA-256 digests, one per row.
        embeddings: unit-length float32 rows [len(keys), dimension].

    Raises:
        SemscaleError: the folder cannot be written, or the disk is full.
    """
    place = Folder.of(folder)
    rows = np.ascontiguousarray(embeddings, dtype=np.float32)
    table = pa.table(
        {
            "sha256": pa.array(list(keys), type=pa.binary(32)),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1]),
        }
    ).replace_schema_metadata({"keys": _digest(np.array(list(keys), dtype="S32")), "rows": _digest(rows)})
    path = place.local / f"{uuid.uuid4().hex}.parquet"
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # float noise does not compress
        pq.write_table(table, partial, compression="NONE", use_dictionary=False, write_page_checksum=True)
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise cannot_write(
            "the embedding store",
            path.parent,
            error,
            hint="free some space, or choose another folder with --store; the same command goes on with what is stored",
        ) from error
    place.push(path.name)
    return path


def read_keys(path: Path) -> Keys:
    """Return the digests of a segment, having looked at all of it.

    Raises:
        DamagedSegmentError: it does not hold what was written.
        FileNotFoundError: it is gone.
        SemscaleError: this user, or this process, cannot read it.
    """
    keys, rows = _columns(path, ("sha256", "embedding"))
    if len(keys) != len(rows):
        raise DamagedSegmentError(path, f"{len(keys)} keys for {len(rows)} rows")
    return keys.astype("S32", copy=False)


def read_rows(path: Path) -> Float32:
    """Return the rows of a segment, float32 [n, dimension]; raises as :func:`read_keys` does."""
    (rows,) = _columns(path, ("embedding",))
    return rows.astype(np.float32, copy=False)


def remove_leftovers(folder: Path) -> None:
    """Remove what writers that died long ago left unfinished; those of a living one are younger."""
    oldest = time.time() - LEFTOVER_S
    for partial in [*folder.glob("*.partial"), *folder.parent.glob("encoder.*.partial")]:
        with contextlib.suppress(OSError):
            if partial.stat().st_mtime < oldest:
                partial.unlink()


def _columns(path: Path, names: Sequence[str]) -> list[npt.NDArray[np.generic]]:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            told = file.schema_arrow.metadata or {}
            table = file.read(columns=list(names))
        found = [_array(table.column(name)) for name in names]
        for name, array in zip(names, found, strict=True):
            digest = told.get(b"keys" if name == "sha256" else b"rows")
            # segments of the first version have none
            if digest is not None and digest != _digest(array):
                raise DamagedSegmentError(path, f"the column {name} is not the one that was written")
    except (FileNotFoundError, MemoryError, DamagedSegmentError):
        raise
    except Exception as error:  # a flipped bit may surface anywhere in the Parquet reader, and in what it returns
        if isinstance(error, OSError) and error.errno in _UNREADABLE:
            raise SemscaleError(
                "the embedding store cannot be read", where=str(path), found=error.strerror or str(error)
            ) from error
        raise DamagedSegmentError(path, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
    return found


def _array(column: pa.ChunkedArray) -> npt.NDArray[np.generic]:
    if column.null_count:
        raise ValueError("a value is missing")
    if pa.types.is_fixed_size_binary(column.type):
        chunks = [np.frombuffer(one.buffers()[1], "S32", len(one), 32 * one.offset) for one in column.chunks]
        return np.concatenate([np.empty(0, dtype="S32"), *chunks])
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0)
    rows: Float32 = array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), -1)
    if rows.dtype != np.float32:
        raise TypeError(f"the rows are {rows.dtype}")
    return rows


def _digest(array: npt.NDArray[np.generic]) -> bytes:
    sha = hashlib.sha256(f"{array.dtype} {array.shape} ".encode())
    sha.update(np.ascontiguousarray(array).view(np.uint8).data)
    return sha.hexdigest().encode()


def to_unit(embeddings: npt.NDArray[np.float32], reasons: list[str | None], who: str) -> None:
    """Bring rows to unit length, in place; those that have no direction become zeros, with a reason.

    Args:
        embeddings: float32 [n, dimension].
        reasons: per row None, or why there is none; is added to.
        who: what a reason begins with.

    >>> rows, reasons = np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32), [None, None]
    >>> to_unit(rows, reasons, "the model gave")
    >>> rows.tolist(), reasons
    ([[0.6000000238418579, 0.800000011920929], [0.0, 0.0]], [None, 'the model gave an embedding of zeros'])
    """
    lengths = np.linalg.norm(embeddings.astype(np.float64), axis=1)
    for i in np.flatnonzero(~np.isfinite(lengths) | (lengths == 0.0)).tolist():
        kind = "of zeros" if lengths[i] == 0.0 else "that is not finite"
        reasons[i] = reasons[i] or f"{who} an embedding {kind}"
        embeddings[i], lengths[i] = 0.0, 1.0
    embeddings /= lengths.astype(np.float32)[:, None]
