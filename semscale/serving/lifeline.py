"""No process outlives the one that needs it: replicas end with the server, the server with its launcher."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import threading
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def end_children_with_me() -> None:
    """Make the kernel kill every process that is forked from now on when this process ends, however it ends.

    Linux only (prctl(2), PR_SET_PDEATHSIG); elsewhere children end only on an orderly stop. It must be called, and
    children forked, in a thread that lives as long as the process: the kernel watches the forking thread.
    """
    if not sys.platform.startswith("linux"):
        return
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    forker = 0

    def remember() -> None:
        nonlocal forker
        forker = os.getpid()

    def tie_to_forker() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != forker:
            # It ended between the fork and the line above.
            os._exit(1)

    os.register_at_fork(before=remember, after_in_child=tie_to_forker)


def watch_parent(fd: int, on_gone: Callable[[], None], interval: float = 1.0) -> None:
    """Call `on_gone` from a thread when the parent process is gone.

    Args:
        fd: the reading end of a pipe that the parent holds open: its end of file tells at once.
        on_gone: called once.
        interval: seconds between looks at the parent's process id, for the case that somebody else has inherited the
            writing end.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            readable, _, _ = select.select([fd], [], [], interval)
            if readable and not os.read(fd, 1):
                break
        on_gone()

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
