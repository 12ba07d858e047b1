"""Local Ray of a sweep: on the loopback address alone, in a folder of this user alone, with the caller's signals."""

from __future__ import annotations

import os
import secrets
import signal
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import ray._private.utils as ray_utils
from ray._common.utils import get_default_system_temp_dir
from ray._private import ray_constants


@contextmanager
def own_sigterm() -> Iterator[None]:
    """Let Ray leave the handler of SIGTERM alone where there is one already, as in commands."""
    own, taken = signal.getsignal(signal.SIGTERM), ray_utils.set_sigterm_handler
    if not callable(own) or threading.current_thread() is not threading.main_thread():
        yield
        return
    ray_utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        ray_utils.set_sigterm_handler = taken
        # below Python's Ray's core has put one of its own, which ends the process after three seconds
        signal.signal(signal.SIGTERM, own)


@contextmanager
def loopback_alone() -> Iterator[None]:
    """Let Ray listen on the loopback only, and find a token that no other user can read."""
    if not (os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")):
        token = Path.home() / ".ray" / "auth_token"  # where Ray looks for it, and would write it for all to read
        token.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), open(os.open(token, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        if token.stat().st_mode & 0o077:
            token.chmod(0o600)
    # as it is on macOS: elsewhere Ray takes 127.0.0.1 for the machine's own address, and listens on all interfaces
    clusters, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = clusters


def private_folder() -> Path:
    """Return a folder of this user alone: what is in it Ray opens to all, again with every worker that it starts."""
    parent = Path(get_default_system_temp_dir())  # Ray's own choice: its sockets allow no long path
    folder = parent / f"ray-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=True)
    found = folder.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
        return folder
    return Path(tempfile.mkdtemp(prefix="ray-", dir=parent))
