"""Launcher: clip-servers of one's own as subprocesses, of which nothing stays behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from semscale.access import TOKEN_VARIABLE
from semscale.errors import SemscaleError
from semscale.serving.config import ServeConfig
from semscale.serving.process import receive, start_process

_READY_SECONDS = 300.0


class ServerHandle:
    """Running servers of one model, and the process that starts them again: a context manager, which stops them."""

    def __init__(self, process: subprocess.Popen[bytes], log_file: Path) -> None:
        self.process = process
        self.log_file = log_file
        self.urls: list[str] = []

    @property
    def url(self) -> str:
        """The address of the first server."""
        return self.urls[0]

    def is_running(self) -> bool:
        """Whether the process that looks after the servers lives."""
        return self.process.poll() is None

    def stop(self, timeout: float = 10.0) -> None:
        """End the servers, after `timeout` seconds by force; it is safe to call it twice."""
        if self.is_running():
            self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout)
        # its servers, too, where it was killed before it could end them
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def __enter__(self) -> ServerHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def launch_server(model: str, *, log_file: Path, **options: Any) -> ServerHandle:
    """Start `python -m semscale.serving` on the loopback address and wait until its servers answer.

    They have their own session, so Ctrl-C in the terminal reaches the caller first, who stops them in good order; they
    end by themselves when this process is gone, however that happens. `options` are further fields of
    :class:`semscale.serving.config.ServeConfig`; ports are free ones unless given.
    """
    config = ServeConfig(model, **({"port": 0} | options))
    log_file.parent.mkdir(parents=True, exist_ok=True)
    # on the loopback address it needs no token, and what is not there cannot leak
    environment = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
    command, settings = [sys.executable, "-m", "semscale.serving"], {"config": asdict(config)}
    with log_file.open("ab") as log:
        process, events = start_process(
            command, settings, stdout=log, stderr=log, start_new_session=True, env=environment
        )
    handle = ServerHandle(process, log_file)
    try:
        handle.urls = _wait_until_ready(handle, events)
    except BaseException:
        handle.stop()
        raise
    finally:
        events.close()
    return handle


def _wait_until_ready(handle: ServerHandle, events: Connection) -> list[str]:
    """Return the addresses that the servers send when they are ready; raise what they say otherwise."""
    in_time, log = events.poll(_READY_SECONDS), handle.log_file
    message: list[str] | SemscaleError | None = receive(events) if in_time else None
    if message is None:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
        found = " | ".join(lines[-5:])[-600:] or "nothing in its log"
        fault = "ended while it was starting" if in_time else f"was not ready after {_READY_SECONDS:g} seconds"
        raise SemscaleError(f"the clip-server {fault}", found=found, hint=f"its whole log: {log}")
    if isinstance(message, SemscaleError):
        message.hint = message.hint or f"the server's log: {log}"
        raise message
    return message
