"""Locks on files: the system takes them back however their process ends, and what the file says does not matter."""

from __future__ import annotations

import fcntl
from typing import BinaryIO


def take_lock(file: BinaryIO) -> bool:
    """Take the lock of an open file, until it is closed; return False if another process has it.

    A file system without locks gives it to everybody: two at once are then the user's affair.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True
