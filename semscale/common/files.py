"""Local files: atomic writes, advisory locks, guarded reads, and URIs of SQLite databases."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from semscale.common.errors import TrackingError

MAX_DOCUMENT_BYTES = 256 * 2**20
"""Default size limit of a file that is read into memory."""


def open_regular_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading; raise OSError for a device, a FIFO or a socket, whose reads may hang or never end."""
    # without O_NONBLOCK opening a FIFO waits for its writer
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file")
    return file


def read_regular_file(path: str | os.PathLike[str], max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
    """Return the content of a regular file; raise OSError for any other, or for one of more than `max_bytes`."""
    with open_regular_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        # a buffer of the limit's size would cost three times as much; some file systems report a size of 0
        content = file.read(size + 1) if size <= max_bytes else b""
        if len(content) > size:
            content += file.read(max(0, max_bytes + 1 - len(content)))
    if max(size, len(content)) > max_bytes:
        raise OSError(errno.EFBIG, f"larger than {max_bytes // 2**20} MiB")
    return content


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, which replaces it when the block ends without an error.

    Readers see the old file or the new one, never a part. The folder is created; the temporary file, whose name ends
    in ``.partial``, is always removed.
    """
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def try_lock(file: BinaryIO | int) -> bool:
    """Acquire the advisory lock of an open file or folder until it is closed; return False if another process holds it.

    The system releases it however the process ends. On a file system without locks it is always granted.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def sqlite_uri(file: Path) -> str:
    """Return the URI of a database file; raise TrackingError for a path that no such URI can contain.

    >>> sqlite_uri(Path("/runs/mlflow.db")), database_file(sqlite_uri(Path("/what?/a%20b.db")))
    ('sqlite:////runs/mlflow.db', PosixPath('/what?/a%20b.db'))
    """
    from sqlalchemy.engine import make_url

    # with a driver in the URI MLflow creates no folder of the quoted name
    for uri in (f"sqlite:///{file}", f"sqlite+pysqlite:///{quote(str(file))}"):
        if make_url(uri).database == str(file):
            return uri
    hint = "choose a folder without these characters, or an MLflow server with --tracking-uri"
    raise TrackingError("no database can be made in a folder of this name", where=str(file), found="? or %", hint=hint)


def database_file(uri: str) -> Path | None:
    """Return the file of an SQLite database; None for any other URI.

    >>> database_file("sqlite:///x.db?timeout=60"), database_file("sqlite://"), database_file("http://host:5000")
    (PosixPath('x.db'), None, None)
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(uri)
    except (ArgumentError, ValueError):
        return None
    is_file = url.drivername.startswith("sqlite") and url.database not in (None, "", ":memory:")
    return Path(str(url.database)) if is_file and "uri" not in url.query else None
