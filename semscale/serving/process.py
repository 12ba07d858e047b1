"""Server process: the environment of its libraries, lines on the console, and the watch on its parent."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

VISIBLE = "CUDA_VISIBLE_DEVICES"

# read by jina, torch and the hub client when they are imported
_ENVIRONMENT = {
    # no look-ups of newer versions and no usage reports: servers run on machines without a network
    "NO_VERSION_CHECK": "1",
    "JINA_OPTOUT_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # one plain line per event, and only what matters
    "JINA_LOG_CONFIG": "plain",
    "JINA_LOG_LEVEL": "WARNING",
    "GRPC_VERBOSITY": "ERROR",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    # OpenMP's threads wait asleep: where servers and clients share the cores, threads that spin for each other make a
    # server with two of them several times slower
    "OMP_WAIT_POLICY": "PASSIVE",
}


def prepare_environment() -> None:
    """Set the defaults of the libraries that are imported next; what the user has set stays."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def say(text: str) -> None:
    """Print one line at once, whole even when several processes write to the same place."""
    # a server does not end because nobody listens any more
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.write(f"semscale serve: {text}\n")
        sys.stdout.flush()


def watch_parent(parent: int, on_gone: Callable[[], Any]) -> None:
    """Call `on_gone` from a thread when the process with this id is not the parent of this process any more."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        on_gone()

    threading.Thread(target=watch, name="parent-watchdog", daemon=True).start()
