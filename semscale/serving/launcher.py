"""Start a clip-server of one's own as a subprocess, and be sure that nothing of it stays behind."""

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
from pathlib import Path
from types import TracebackType
from typing import Any

from semscale.access import TOKEN_VARIABLE, Access
from semscale.errors import SemscaleError
from semscale.serving.health import check_server
from semscale.serving.processes import living_in_group

Progress = Callable[[str], None]


class ServerHandle:
    """A running server: use it as a context manager, or call :meth:`stop`.

    Attributes:
        url: its address, `grpc://127.0.0.1:PORT`.
        info: the identity of its model, as :func:`semscale.serving.health.check_server` returns it.
        log_file: what it has written.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], lifeline: int, status: int, log_file: Path, temporary: bool
    ) -> None:
        self._process = process
        self._lifeline = lifeline
        self._status = status
        self._unread = b""
        self._roles: dict[str, Any] = {}
        self._temporary_log = temporary
        self.log_file = log_file
        self.url = ""
        self.info: dict[str, Any] = {}

    @property
    def roles(self) -> dict[str, Any]:
        """Process ids by role: `server`, `gateway`, `replicas` (a list in the order of their numbers).

        They change when the server starts a process again; every look gives those of now.
        """
        while self._status >= 0 and select.select([self._status], [], [], 0.0)[0]:
            chunk = os.read(self._status, 65536)
            if not chunk:
                break
            *lines, self._unread = (self._unread + chunk).split(b"\n")
            for line in lines:
                self._roles = json.loads(line).get("pids", self._roles)
        return dict(self._roles)

    def pids(self) -> list[int]:
        """List the living processes of the server: itself, gateway and replicas."""
        return living_in_group(self._process.pid)

    def is_running(self) -> bool:
        """Whether the server process lives (its replicas may not: see `check_server`)."""
        return self._process.poll() is None

    def stop(self, timeout: float = 10.0) -> None:
        """End the server: politely, then after `timeout` seconds by force; it is safe to call it twice."""
        group = self._process.pid
        _signal_group(group, signal.SIGTERM)
        deadline = time.monotonic() + timeout
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        while living_in_group(group) and time.monotonic() < deadline:
            time.sleep(0.02)
        if self._process.poll() is None or living_in_group(group):
            _signal_group(group, signal.SIGKILL)
            self._process.wait()
        if self._lifeline >= 0:
            os.close(self._lifeline)
            os.close(self._status)
            self._lifeline = self._status = -1
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
    replicas: int = 2,
    device: str = "cpu",
    dtype: str | None = None,
    port: int | None = None,
    minibatch_size: int | None = None,
    log_file: Path | None = None,
    on_progress: Progress | None = None,
    ready_timeout: float = 300.0,
    num_threads: int | None = None,
) -> ServerHandle:
    """Start `python -m semscale.serving` on the loopback address and wait until it answers through its executors.

    The server has its own session, so Ctrl-C in the terminal reaches the caller first, who stops the server in good
    order; it ends by itself when this process is gone, however that happens. A replica or gateway that ends is started
    again by the server.

    Args:
        model, replicas, device, dtype, minibatch_size, num_threads: as in :class:`semscale.serving.flow.ServeConfig`.
        port: a port, or None for a free one.
        log_file: what the server writes goes there; None: a temporary file, deleted by `stop`.
        on_progress: called with one line for each step of the start.
        ready_timeout: seconds until the start counts as failed.

    Raises:
        SemscaleError: what kept the server from starting, in its own words.
    """
    temporary = log_file is None
    path = log_file or _temporary_log()
    path.parent.mkdir(parents=True, exist_ok=True)
    status_out, status_in = os.pipe()
    lifeline_out, lifeline_in = os.pipe()
    options = {
        "--model": model,
        "--replicas": replicas,
        "--device": device,
        "--dtype": dtype,
        "--port": port or 0,
        "--minibatch": minibatch_size,
        "--threads": num_threads,
        "--status-fd": status_in,
        "--lifeline-fd": lifeline_out,
    }
    command = [sys.executable, "-m", "semscale.serving"]
    command += [f"{flag}={value}" for flag, value in options.items() if value is not None]
    try:
        with path.open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # On the loopback address it needs no token, and what is not there cannot leak.
                env={name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE},
                pass_fds=(status_in, lifeline_out),
            )
    except BaseException:
        os.close(status_out)
        os.close(lifeline_in)
        raise
    finally:
        os.close(status_in)
        os.close(lifeline_out)
    handle = ServerHandle(process, lifeline_in, status_out, path, temporary)
    try:
        event = _wait_until_ready(process, status_out, path, ready_timeout, on_progress)
        handle.url, handle._roles = event["url"], event["pids"]
        handle.info = check_server(handle.url, timeout=ready_timeout, access=Access()) or {}
    except BaseException:
        # The log outlives a failed start: the message points to it.
        handle._temporary_log = False
        handle.stop()
        raise
    return handle


def _wait_until_ready(
    process: subprocess.Popen[bytes], status: int, log: Path, timeout: float, on_progress: Progress | None
) -> dict[str, Any]:
    """Read the server's events until it is ready; raise what it says when it cannot be."""
    deadline = time.monotonic() + timeout
    pending = b""
    while True:
        alive = process.poll() is None
        readable, _, _ = select.select([status], [], [], 0.2 if alive else 0.0)
        chunk = os.read(status, 65536) if readable else b""
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            event: dict[str, Any] = json.loads(line)
            if event["event"] == "ready":
                return event
            if event["event"] == "error":
                raise _as_error(event, log)
            if on_progress is not None:
                on_progress(event["text"])
        if not alive and not chunk:
            raise SemscaleError(
                "the clip-server ended while it was starting",
                where=f"exit status {process.returncode}",
                found=_last_lines(log),
                hint=f"its whole log: {log}",
            )
        if time.monotonic() > deadline:
            raise SemscaleError(
                f"the clip-server was not ready after {timeout:g} seconds",
                found=_last_lines(log),
                hint=f"a large model needs longer to load; its log: {log}",
            )


def _as_error(event: dict[str, Any], log: Path) -> SemscaleError:
    hint = event["hint"] or f"the server's log: {log}"
    return SemscaleError(
        event["what"], where=event["where"], found=event["found"], expected=event["expected"], hint=hint
    )


def _last_lines(log: Path, count: int = 5) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-count:])[-600:] or "nothing in its log"


def _temporary_log() -> Path:
    handle, name = tempfile.mkstemp(prefix="semscale-serve-", suffix=".log")
    os.close(handle)
    return Path(name)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
