"""Atomic writes, locks, reads of files that somebody else may have put there, and addresses of database files."""

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

from semscale.common.errors import SemscaleError

MAX_DOCUMENT_BYTES = 256 * 2**20
"""Size of the largest file that is read as a whole."""


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading; OSError for a device, a FIFO or a socket, which may hang or never end."""
    # without O_NONBLOCK opening a FIFO waits for its writer
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file")
    return file


def read_regular(path: str | os.PathLike[str], most: int = MAX_DOCUMENT_BYTES) -> bytes:
    """Return the content of a regular file; OSError if it is none, or has more than `most` bytes."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        # a buffer of the file's size costs a third of one of the limit's; some file systems give 0 as the size
        content = file.read(size + 1) if size <= most else b""
        if len(content) > size:
            content += file.read(max(0, most + 1 - len(content)))
    if max(size, len(content)) > most:
        raise OSError(errno.EFBIG, f"larger than {most // 2**20} MiB")
    return content


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, which takes its place when the block ends without an error.

    A reader sees the old file or the new one, never half of it. The folder is made; the temporary file ends in
    ``.partial`` and is gone afterwards in any case.
    """
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def take_lock(file: BinaryIO | int) -> bool:
    """Take the advisory lock of an open file or folder until it is closed; return False if another process holds it.

    The system frees it however the process ends. On a file system without locks it is always granted.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def sqlite_uri(file: Path) -> str:
    """Return the address of a database file; SemscaleError for a path that the address of a database cannot say.

    >>> sqlite_uri(Path("/runs/mlflow.db")), database_file(sqlite_uri(Path("/what?/a%20b.db")))
    ('sqlite:////runs/mlflow.db', PosixPath('/what?/a%20b.db'))
    """
    from sqlalchemy.engine import make_url

    # with a driver in the address MLflow makes no folder of the name as it is quoted
    for uri in (f"sqlite:///{file}", f"sqlite+pysqlite:///{quote(str(file))}"):
        if make_url(uri).database == str(file):
            return uri
    hint = "choose a folder without these characters, or an MLflow server with --tracking-uri"
    raise SemscaleError("no database can be made in a folder of this name", where=str(file), found="? or %", hint=hint)


def database_file(uri: str) -> Path | None:
    """Return the file of an SQLite database; None for an address of anything else.

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
