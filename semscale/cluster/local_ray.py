"""Local Ray of a sweep: on the loopback interface, in a private folder, without Ray's signal handlers."""

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
def keep_sigterm_handler() -> Iterator[None]:
    """Keep an existing handler of SIGTERM, such as that of the commands, while Ray starts."""
    handler, set_sigterm_handler = signal.getsignal(signal.SIGTERM), ray_utils.set_sigterm_handler
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    ray_utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        ray_utils.set_sigterm_handler = set_sigterm_handler
        # Ray's core has installed a handler in C, which ends the process after three seconds
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def loopback_only() -> Iterator[None]:
    """Let Ray listen on the loopback interface only, with a token that no other user can read."""
    if not (os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")):
        token = Path.home() / ".ray" / "auth_token"  # Ray reads it there, and would create it readable for all
        token.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), open(os.open(token, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        if token.stat().st_mode & 0o077:
            token.chmod(0o600)
    # as on macOS: elsewhere Ray replaces 127.0.0.1 by the machine's address and listens on all interfaces
    clusters, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = clusters


def private_folder() -> Path:
    """Return a folder that only this user can enter: Ray makes its session in it readable for all, repeatedly."""
    parent = Path(get_default_system_temp_dir())  # Ray's default: its sockets need a short path
    folder = parent / f"ray-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=True)
    status = folder.lstat()
    if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077:
        return folder
    return Path(tempfile.mkdtemp(prefix="ray-", dir=parent))
