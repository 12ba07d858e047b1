"""Process of a clip-server: start, environment, parent watchdog, and log lines."""

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

GPU_VARIABLE = "CUDA_VISIBLE_DEVICES"

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
    # spinning threads make a server several times slower where it shares the cores with clients
    "OMP_WAIT_POLICY": "PASSIVE",
}


def prepare_environment() -> None:
    """Set defaults for the libraries that are imported next; variables that the user has set stay."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def start_process(
    command: Sequence[str], settings: dict[str, Any], **options: Any
) -> tuple[subprocess.Popen[bytes], Connection]:
    """Start a process with settings; return it and the pipe on which it sends its events."""
    events, sender = Pipe(duplex=False)
    argument = json.dumps(settings | {"parent": os.getpid(), "events_fd": sender.fileno()})
    with sender:
        process = subprocess.Popen(
            [*command, argument], stdin=subprocess.DEVNULL, pass_fds=(sender.fileno(),), **options
        )
    return process, events


def read_settings(argument: str) -> tuple[dict[str, Any], Connection]:
    """Return the settings and the pipe from :func:`start_process`; this process ends when its parent has ended."""
    settings = json.loads(argument)
    watch_parent(settings["parent"], on_exit=lambda: os._exit(1))
    return settings, Connection(settings["events_fd"], readable=False)


def watch_parent(parent: int, on_exit: Callable[[], Any]) -> None:
    """Call `on_exit` from a thread when the parent of this process, given by its id, has ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        on_exit()

    threading.Thread(target=watch, name="parent-watchdog", daemon=True).start()


def receive_event(events: Connection) -> Any:
    """Return the next event that a process has sent; None if it has ended."""
    try:
        return events.recv()
    except (EOFError, OSError):
        return None


def print_line(text: str, log: IO[str] | None = None) -> None:
    """Print a line, or write it to a log, without buffering, so that lines of several processes do not mix."""
    stream = log or sys.stdout
    # a server does not end because its output is closed
    with contextlib.suppress(OSError, ValueError):
        stream.write(f"semscale serve: {printable(text)}\n")
        stream.flush()
