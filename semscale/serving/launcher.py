"""Launcher: clip-servers of one's own, looked after by a thread of this process, of which nothing stays behind."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from semscale.common.errors import SemscaleError, ServerError, cannot_write
from semscale.serving.replicas import Supervisor
from semscale.serving.server_config import ServeConfig
from semscale.serving.server_process import say

_READY_SECONDS = 300.0


class ServerHandle:
    """Running servers of one model: a context manager, which stops them."""

    supervisor: Supervisor

    def __init__(self, config: ServeConfig, log_file: Path) -> None:
        self.log_file = log_file
        self.urls: list[str] = []
        self._stop = threading.Event()
        self._ready: Future[list[str]] = Future()
        self._thread = threading.Thread(target=self._supervise, args=(config,), name="clip-server", daemon=True)

    @property
    def url(self) -> str:
        """The address of the first server."""
        return self.urls[0]

    def is_running(self) -> bool:
        """Whether the servers are looked after: not after a stop, or when one has ended too often."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the servers, and return when they answer; raise what keeps them from it."""
        self._thread.start()
        try:
            self.urls = self._ready.result(_READY_SECONDS)
        except TimeoutError as error:
            found = f"not ready after {_READY_SECONDS:g} seconds"
            hint = f"its log: {self.log_file}"
            raise ServerError("the clip-server does not start", found=found, hint=hint) from error

    def stop(self) -> None:
        """End the servers, after some seconds by force; it is safe to call it twice."""
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
            except Exception as error:  # whoever waits for the servers is to hear of it
                say(f"error: {error}", log)
                if isinstance(error, SemscaleError):
                    error.hint = error.hint or f"the server's log: {self.log_file}"
                if not self._ready.done():
                    self._ready.set_exception(error)


def launch_server(model: str, *, log_file: Path, **options: Any) -> ServerHandle:
    """Start servers on the loopback address and wait until they answer.

    They have their own sessions, so Ctrl-C in the terminal reaches the caller, who stops them in good order; they end
    by themselves when this process is gone, however that happens. `options` are further fields of
    :class:`semscale.serving.server_config.ServeConfig`; ports are free ones unless given.
    """
    try:  # here, since whoever waits would not hear of it from the thread
        log_file.parent.mkdir(parents=True, exist_ok=True)
        log_file.open("ab").close()
    except OSError as error:
        raise cannot_write("the log of the server", log_file, error, hint="free some space, or choose --out") from error
    handle = ServerHandle(ServeConfig(model, **({"port": 0} | options)), log_file)
    try:
        handle.start()
    except BaseException:
        handle.stop()
        raise
    return handle
