"""Launcher: clip-servers of one's own as subprocesses, of which nothing stays behind."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from semscale.access import TOKEN_VARIABLE
from semscale.errors import SemscaleError
from semscale.serving.config import ServeConfig
from semscale.serving.status_events import EventReader, error_of

Progress = Callable[[str], None]


class ServerHandle:
    """Running servers of one model: use it as a context manager, or call :meth:`stop`.

    Attributes:
        process: the process that has started them and starts them again.
        urls: their addresses, `grpc://127.0.0.1:PORT`.
        info: what the model's server says at `/info`.
        log_file: what they have written.
    """

    def __init__(self, process: subprocess.Popen[bytes], log_file: Path, temporary_log: bool) -> None:
        self.process = process
        self.log_file = log_file
        self.urls: list[str] = []
        self.info: dict[str, Any] = {}
        self._temporary_log = temporary_log

    @property
    def url(self) -> str:
        """The address of the first server."""
        return self.urls[0]

    def replica_pids(self) -> list[int]:
        """List the server processes in the order of their addresses; one that is being started again may be missing."""
        numbers = {}
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children():
                with contextlib.suppress(psutil.NoSuchProcess, IndexError, ValueError):
                    numbers[json.loads(child.cmdline()[-1])["number"]] = child.pid
        return [numbers[number] for number in sorted(numbers)]

    def pids(self) -> list[int]:
        """List all living processes; zombies, which only wait to be reaped, do not count."""
        return living_in_group(self.process.pid)

    def is_running(self) -> bool:
        """Whether the process that looks after the servers lives."""
        return self.process.poll() is None

    def stop(self, timeout: float = 10.0) -> None:
        """End the servers: politely, then after `timeout` seconds by force; it is safe to call it twice."""
        if self.is_running():
            self.process.terminate()
        deadline = time.monotonic() + timeout
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout)
        while self.pids() and time.monotonic() < deadline:
            time.sleep(0.05)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self._temporary_log:
            self.log_file.unlink(missing_ok=True)

    def __enter__(self) -> ServerHandle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def launch_server(
    model: str,
    *,
    log_file: Path | None = None,
    on_progress: Progress | None = None,
    ready_timeout: float = 300.0,
    **options: Any,
) -> ServerHandle:
    """Start `python -m semscale.serving` on the loopback address and wait until its servers answer.

    They have their own session, so Ctrl-C in the terminal reaches the caller first, who stops them in good order; they
    end by themselves when this process is gone, however that happens. A server that ends is started again.

    Args:
        model: a model name.
        log_file: what the servers write goes there; None: a temporary file, deleted by `stop`.
        on_progress: called with one line for each step of the start.
        ready_timeout: seconds until the start counts as failed.
        options: further fields of :class:`semscale.serving.config.ServeConfig`; ports are free ones unless given.

    Raises:
        SemscaleError: what kept a server from starting, in its own words.
    """
    config = ServeConfig(model, **({"port": 0} | options))
    path = log_file or _temporary_log()
    path.parent.mkdir(parents=True, exist_ok=True)
    status_out, status_in = os.pipe()
    argument = json.dumps(asdict(config) | {"status_fd": status_in, "parent": os.getpid()})
    events = EventReader(status_out)
    try:
        with path.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "semscale.serving", argument],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # On the loopback address it needs no token, and what is not there cannot leak.
                env={name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE},
                pass_fds=(status_in,),
            )
        os.close(status_in)
        handle = ServerHandle(process, path, temporary_log=log_file is None)
        try:
            ready = _wait_until_ready(handle, events, ready_timeout, on_progress)
        except BaseException:
            # The log outlives a failed start: the message points to it.
            handle._temporary_log = False
            handle.stop()
            raise
    finally:
        events.close()
    handle.urls, handle.info = ready["urls"], ready["info"]
    return handle


def living_in_group(group: int) -> list[int]:
    """List the processes of a process group, oldest first, without zombies.

    >>> os.getpid() in living_in_group(os.getpgid(0))
    True
    """
    pids = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError, PermissionError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                pids.append(process.pid)
    return sorted(pids)


def _wait_until_ready(
    handle: ServerHandle, events: EventReader, timeout: float, on_progress: Progress | None
) -> dict[str, Any]:
    """Read events until the servers are ready; raise what they say when they cannot be."""
    log, deadline = handle.log_file, time.monotonic() + timeout
    while time.monotonic() < deadline:
        if not select.select([events.fd], [], [], 0.2)[0]:
            continue
        received = events.read()
        if received is None:
            raise SemscaleError(
                "the clip-server ended while it was starting",
                where=f"exit status {handle.process.wait()}",
                found=_last_lines(log),
                hint=f"its whole log: {log}",
            )
        for event in received:
            if event["event"] == "ready":
                return event
            if event["event"] == "error":
                error = error_of(event)
                error.hint = error.hint or f"the server's log: {log}"
                raise error
            if on_progress is not None:
                on_progress(event["text"])
    raise SemscaleError(
        f"the clip-server was not ready after {timeout:g} seconds",
        found=_last_lines(log),
        hint=f"a large model needs longer to load; its log: {log}",
    )


def _last_lines(log: Path, count: int = 5) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-count:])[-600:] or "nothing in its log"


def _temporary_log() -> Path:
    handle, name = tempfile.mkstemp(prefix="semscale-serve-", suffix=".log")
    os.close(handle)
    return Path(name)
