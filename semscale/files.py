"""Atomic writes and locks of files."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


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
