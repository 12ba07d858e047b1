"""Segment of the embedding store: an immutable Parquet file, written atomically and verified by digests.

It has the columns ``sha256`` (32 bytes) and ``embedding`` (float32, unit length). Parquet's page checksums do not cover
the headers of pages, so the metadata of the file has a digest of each column as well.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from semscale.common.errors import StoreError, summarize, write_error
from semscale.common.files import atomic_write
from semscale.store.key_index import Keys
from semscale.store.mirrored_directory import MirroredDirectory

Float32 = npt.NDArray[np.float32]

LEFTOVER_S = 86_400.0
"""Age in seconds from which an unfinished file is taken for that of a dead writer."""

_UNREADABLE = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ENOTCONN)
# column -> the key of its digest in the metadata
_DIGESTS = {"sha256": b"keys", "embedding": b"rows"}


class DamagedSegmentError(Exception):
    """The segment is corrupt. Readers skip it and its rows are encoded again."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason


def write_segment(folder: Path | MirroredDirectory, keys: Sequence[bytes], embeddings: Float32) -> Path:
    """Write a segment atomically: digests and unit-length rows, float32 [len(keys), dimension]."""
    directory = MirroredDirectory.of(folder)
    rows = np.ascontiguousarray(embeddings, dtype=np.float32)
    table = pa.table(
        {
            "sha256": pa.array(list(keys), type=pa.binary(32)),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1]),
        }
    ).replace_schema_metadata({"keys": _digest(np.array(list(keys), dtype="S32")), "rows": _digest(rows)})
    path = directory.local / f"{uuid.uuid4().hex}.parquet"
    try:
        with atomic_write(path) as partial:  # embeddings do not compress
            pq.write_table(table, partial, compression="NONE", use_dictionary=False, write_page_checksum=True)
    except OSError as error:
        hint = "free some space, or choose another folder with --store; the same command continues from what is stored"
        raise write_error("the embedding store", path.parent, error, hint=hint, kind=StoreError) from error
    directory.push(path.name)
    return path


def write_valid_rows(
    folder: MirroredDirectory, keys: Sequence[bytes], embeddings: Float32, reasons: Sequence[str | None]
) -> None:
    """Write a segment of the rows without a reason for failure."""
    if valid := [i for i, reason in enumerate(reasons) if reason is None]:
        write_segment(folder, [keys[i] for i in valid], embeddings[valid])


def read_keys(path: Path) -> Keys:
    """Verify a whole segment and return its keys; raises DamagedSegmentError or FileNotFoundError."""
    keys, rows = _columns(path, ("sha256", "embedding"))
    if len(keys) != len(rows):
        raise DamagedSegmentError(path, f"{len(keys)} keys for {len(rows)} rows")
    return keys.astype("S32", copy=False)


def read_rows(path: Path) -> Float32:
    """Return the verified rows of a segment, float32 [n, dimension]; raises as :func:`read_keys` does."""
    (rows,) = _columns(path, ("embedding",))
    return rows.astype(np.float32, copy=False)


def remove_leftovers(folder: Path) -> None:
    """Remove unfinished files older than :data:`LEFTOVER_S`."""
    oldest = time.time() - LEFTOVER_S
    for partial in [*folder.glob("*.partial"), *folder.parent.glob("encoder.*.partial")]:
        with contextlib.suppress(OSError):
            if partial.stat().st_mtime < oldest:
                partial.unlink()


def _columns(path: Path, names: Sequence[str]) -> list[npt.NDArray[np.generic]]:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            digests = file.schema_arrow.metadata or {}
            table = file.read(columns=list(names))
        columns = [_array(table.column(name)) for name in names]
    except (FileNotFoundError, MemoryError):
        raise
    except Exception as error:  # a flipped bit may show anywhere in the Parquet reader
        if isinstance(error, OSError) and error.errno in _UNREADABLE:
            found = error.strerror or str(error)
            raise StoreError("the embedding store cannot be read", where=str(path), found=found) from error
        raise DamagedSegmentError(path, f"{type(error).__name__}: {summarize(error)}") from error
    for name, column in zip(names, columns, strict=True):
        digest = digests.get(_DIGESTS[name])  # segments of the first version have none
        if digest is not None and digest != _digest(column):
            raise DamagedSegmentError(path, f"the digest of the column {name} does not match")
    return columns


def _array(column: pa.ChunkedArray) -> npt.NDArray[np.generic]:
    if column.null_count:
        raise ValueError("a value is missing")
    array = column.combine_chunks()
    if pa.types.is_fixed_size_binary(column.type):
        return np.frombuffer(array.buffers()[1], "S32", len(array), 32 * array.offset)
    rows: Float32 = array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), -1)
    if rows.dtype != np.float32:
        raise TypeError(f"the rows are {rows.dtype}")
    return rows


def _digest(array: npt.NDArray[np.generic]) -> bytes:
    sha = hashlib.sha256(f"{array.dtype} {array.shape} ".encode())
    sha.update(np.ascontiguousarray(array).view(np.uint8).data)
    return sha.hexdigest().encode()


def l2_normalize(rows: Float32, reasons: list[str | None], source: str) -> None:
    """Scale rows [n, dimension] to unit length in place; rows of zeros, NaN or infinity become zeros, with a reason.

    >>> rows, reasons = np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32), [None, None]
    >>> l2_normalize(rows, reasons, "the model gave")
    >>> rows.tolist(), reasons
    ([[0.6000000238418579, 0.800000011920929], [0.0, 0.0]], [None, 'the model gave an embedding of zeros'])
    """
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    for i in np.flatnonzero(~np.isfinite(lengths) | (lengths == 0.0)).tolist():
        kind = "of zeros" if lengths[i] == 0.0 else "that is not finite"
        reasons[i] = reasons[i] or f"{source} an embedding {kind}"
        rows[i], lengths[i] = 0.0, 1.0
    rows /= lengths.astype(np.float32)[:, None]
