"""Launcher of clip-servers that a thread of this process supervises and stops."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from semscale.common.errors import SemscaleError, ServerError, write_error
from semscale.serving.replicas import Supervisor
from semscale.serving.server_config import ServeConfig
from semscale.serving.server_process import print_line

_READY_SECONDS = 300.0


class ServerHandle:
    """Handle of the running servers of a model; as a context manager it stops them."""

    supervisor: Supervisor

    def __init__(self, config: ServeConfig, log_file: Path) -> None:
        self.log_file = log_file
        self.urls: list[str] = []
        self._stop = threading.Event()
        self._ready: Future[list[str]] = Future()
        self._thread = threading.Thread(target=self._supervise, args=(config,), name="clip-server", daemon=True)

    @property
    def url(self) -> str:
        """Return the address of the first server."""
        return self.urls[0]

    def is_running(self) -> bool:
        """Return whether the servers are supervised: not after a stop, nor after one has ended too often."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the servers, and return when they answer; raise the error of a start that fails."""
        self._thread.start()
        try:
            self.urls = self._ready.result(_READY_SECONDS)
        except TimeoutError as error:
            found = f"not ready after {_READY_SECONDS:g} seconds"
            hint = f"its log: {self.log_file}"
            raise ServerError("the clip-server does not start", found=found, hint=hint) from error

    def stop(self) -> None:
        """Stop the servers, after some seconds by force; a second call has no effect."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def __enter__(self) -> ServerHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _supervise(self, config: ServeConfig) -> None:
        with self.log_file.open("a", encoding="utf-8") as log:
            try:
                with Supervisor(config, self._stop, log) as self.supervisor:
                    self.supervisor.run(self._ready.set_result)
            except Exception as error:  # for the thread that waits in start()
                print_line(f"error: {error}", log)
                if isinstance(error, SemscaleError):
                    error.hint = error.hint or f"the server's log: {self.log_file}"
                if not self._ready.done():
                    self._ready.set_exception(error)


def launch_server(model: str, *, log_file: Path, **options: Any) -> ServerHandle:
    """Start servers on the loopback address and wait until they answer.

    They run in sessions of their own, so that Ctrl-C in the terminal reaches only the caller, who stops them; they
    also end when this process ends in any way. `options` are further fields of
    :class:`semscale.serving.server_config.ServeConfig`; the default is a free port for each.
    """
    try:  # here: start() would not see an error of the thread
        log_file.parent.mkdir(parents=True, exist_ok=True)
        log_file.open("ab").close()
    except OSError as error:
        hint = "free some space, or choose --out"
        raise write_error("the log of the server", log_file, error, hint=hint, kind=ServerError) from error
    handle = ServerHandle(ServeConfig(model, **({"port": 0} | options)), log_file)
    try:
        handle.start()
    except BaseException:
        handle.stop()
        raise
    return handle
