"""Server process: how it is started and watches its parent, its environment, and its lines on the console."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, Pipe
from typing import IO, Any

from semscale.common.redact import printable

VISIBLE = "CUDA_VISIBLE_DEVICES"

# read by jina, torch and the hub client when they are imported
_ENVIRONMENT = {
    # servers run on machines without a network
    "NO_VERSION_CHECK": "1",
    "JINA_OPTOUT_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "JINA_LOG_CONFIG": "plain",
    "JINA_LOG_LEVEL": "WARNING",
    "GRPC_VERBOSITY": "ERROR",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    # where servers and clients share the cores, threads that spin for each other make a server several times slower
    "OMP_WAIT_POLICY": "PASSIVE",
}


def prepare_environment() -> None:
    """Set the defaults of the libraries that are imported next; what the user has set stays."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def start_process(
    command: Sequence[str], settings: dict[str, Any], **options: Any
) -> tuple[subprocess.Popen[bytes], Connection]:
    """Start a process with settings, and return it with the pipe on which it sends what becomes of it."""
    events, sender = Pipe(duplex=False)
    argument = json.dumps(settings | {"parent": os.getpid(), "events_fd": sender.fileno()})
    with sender:
        process = subprocess.Popen(
            [*command, argument], stdin=subprocess.DEVNULL, pass_fds=(sender.fileno(),), **options
        )
    return process, events


def read_settings(argument: str) -> tuple[dict[str, Any], Connection]:
    """Return what :func:`start_process` has started this process with, which ends when its parent is gone."""
    settings = json.loads(argument)
    watch_parent(settings["parent"], on_gone=lambda: os._exit(1))
    return settings, Connection(settings["events_fd"], readable=False)


def watch_parent(parent: int, on_gone: Callable[[], Any]) -> None:
    """Call `on_gone` from a thread when the process with this id is not the parent of this process any more."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        on_gone()

    threading.Thread(target=watch, name="parent-watchdog", daemon=True).start()


def receive(events: Connection) -> Any:
    """Return the next thing that a process has sent; None when it has ended."""
    try:
        return events.recv()
    except (EOFError, OSError):
        return None


def say(text: str, log: IO[str] | None = None) -> None:
    """Print one line at once, or write it to a log, whole even when several processes write to the same place."""
    stream = log or sys.stdout
    # a server does not end because nobody listens any more
    with contextlib.suppress(OSError, ValueError):
        stream.write(f"semscale serve: {printable(text)}\n")
        stream.flush()
