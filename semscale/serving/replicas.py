"""Replicas: the processes of `semscale serve`, one clip-server each, started again when they end."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from semscale.access import read_token
from semscale.errors import SemscaleError
from semscale.serving.config import ServeConfig, check_certificate
from semscale.serving.environment import available_cores
from semscale.serving.gpus import VISIBLE, choose_gpus, visible_gpus
from semscale.serving.server import ReplicaSettings
from semscale.serving.status_events import EventReader, EventSender, error_of, say

COMMAND = [sys.executable, "-m", "semscale.serving.server"]
# An image that brings the model down is found in a few requests, each of which costs a process; servers that end more
# often than this, or never come up, do nobody any good.
MOST_ENDS = 20
WINDOW = 300.0
MOST_FAILED_STARTS = 5
_TICK = 0.2
_STOP_SECONDS = 6.0


class Replica:
    """One server process.

    Args:
        number: which one it is.
        config: its own settings.
        gpu: the only GPU that it sees; None: as this process.
    """

    def __init__(self, number: int, config: ServeConfig, gpu: str | None) -> None:
        self.number = number
        self.url = config.url(config.port)
        self.info: dict[str, Any] | None = None
        self._config = config
        self._environment = os.environ | ({VISIBLE: gpu} if gpu is not None else {})
        self._ends: deque[float] = deque()
        self._failed_starts = 0

    def start(self) -> None:
        """Start the process; it is ready when it has sent its info."""
        self.info = None
        self.begun = time.monotonic()
        status_out, status_in = os.pipe()
        settings = ReplicaSettings(self._config, self.number, os.getpid(), status_in)
        try:
            self.process = subprocess.Popen(
                [*COMMAND, settings.to_json()],
                stdin=subprocess.DEVNULL,
                env=self._environment,
                pass_fds=(status_in,),
            )
        finally:
            os.close(status_in)
        self.events = EventReader(status_out)

    def count_end(self) -> str:
        """Wait for the process that has ended and return in words how it did.

        Raises:
            SemscaleError: it has ended too often.
        """
        how = _exit_reason(self.process.wait())
        self.events.close()
        now = time.monotonic()
        self._ends.append(now)
        while self._ends[0] < now - WINDOW:
            self._ends.popleft()
        self._failed_starts = self._failed_starts + 1 if self.info is None else 0
        if self._failed_starts >= MOST_FAILED_STARTS:
            times = f"{self._failed_starts} times before it was ready"
        elif len(self._ends) > MOST_ENDS:
            times = f"{len(self._ends)} times within {WINDOW:g} seconds"
        else:
            return how
        raise SemscaleError(
            f"replica {self.number} ended {times}; the server stops",
            found=f"at last {how}",
            hint="the lines above say why; a replica that is killed may need more memory",
        )


class Supervisor:
    """Starts the replicas, waits until they are ready, and starts again what ends; a context manager.

    Args:
        config: settings of all of them.
        stop: ends waiting and watching.

    Raises:
        SemscaleError: a token, certificate, port or GPU that cannot be had.
    """

    def __init__(self, config: ServeConfig, stop: threading.Event) -> None:
        self._stop = stop
        self._stack = ExitStack()
        self._selector = self._stack.enter_context(selectors.DefaultSelector())
        has_token = read_token(config.token_file) is not None
        check_certificate(config.tls_cert, config.tls_key)
        gpus: list[str] = []
        if config.gpus is not None:
            gpus = choose_gpus(config.gpus, visible_gpus())
            config = replace(config, device="cuda", replicas=len(gpus) * config.per_gpu, gpus=None)
        elif config.device == "cuda":
            gpus = visible_gpus()
        if warning := config.exposure(has_token):
            say(warning)
        threads = config.num_threads or max(1, available_cores() // config.replicas)
        self.replicas: list[Replica] = []
        for number in range(config.replicas):
            port = self._reserve_port(config.host, config.port + number if config.port else 0)
            metrics_port = None if config.metrics_port is None else config.metrics_port + number
            own = replace(config, replicas=1, port=port, num_threads=threads, metrics_port=metrics_port)
            gpu = gpus[number // config.per_gpu % len(gpus)] if gpus else None
            self.replicas.append(Replica(number, own, gpu))
            if metrics_port is not None:
                say(f"metrics of replica {number} at http://{config.host}:{metrics_port}")

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        started = [replica.process for replica in self.replicas if hasattr(replica, "process")]
        for process in started:
            process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for process in started:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._stack.close()

    def start(self) -> None:
        """Start all replicas and return when they are ready, or when it is to stop.

        Raises:
            SemscaleError: what keeps one from starting, in its own words.
        """
        for replica in self.replicas:
            self._start(replica)
        while not self._stop.is_set() and any(replica.info is None for replica in self.replicas):
            for replica, events in self._wait():
                for event in events or ():
                    if event["event"] == "error":
                        raise error_of(event)
                    replica.info = event["info"]
                if events is None and not self._stop.wait(_TICK):
                    raise SemscaleError(
                        "a process of the server ended while it was starting", hint="the lines above say why"
                    )

    def watch(self) -> None:
        """Start again whatever ends, until it is to stop.

        Raises:
            SemscaleError: a process ends again and again.
        """
        while not self._stop.is_set():
            for replica, events in self._wait():
                for event in events or ():
                    if event["event"] == "error":
                        say(f"replica {replica.number}: {error_of(event)}")
                    else:
                        replica.info = event["info"]
                        say(f"replica {replica.number} is back after {time.monotonic() - replica.begun:.1f} s")
                # A signal may reach all processes at once: the replicas may end before this one has heard of it.
                if events is None and not self._stop.wait(_TICK):
                    self._selector.unregister(replica.events.fd)
                    how = replica.count_end()
                    say(f"replica {replica.number} ended {how}; starting it again")
                    self._start(replica)

    def _start(self, replica: Replica) -> None:
        replica.start()
        self._selector.register(replica.events.fd, selectors.EVENT_READ, replica)

    def _wait(self) -> list[tuple[Replica, list[dict[str, Any]] | None]]:
        """Return the replicas that have sent events, or have ended (None), within a moment."""
        return [(key.data, key.data.events.read()) for key, _ in self._selector.select(_TICK)]

    def _reserve_port(self, host: str, port: int) -> int:
        """Check that a port is free, or find a free one (0), and keep it for the process that will listen there."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
                port = int(probe.getsockname()[1])
            # Bound but not listening: nobody else gets the port, also while a replica is being started again; gRPC
            # listens with SO_REUSEPORT.
            reservation = self._stack.enter_context(socket.socket(family))
            reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            reservation.bind((host, port))
        except (OSError, OverflowError) as error:
            raise SemscaleError(
                "the server cannot listen there",
                where=f"{host}:{port}",
                found=getattr(error, "strerror", None) or str(error),
                hint="choose another --port, or 0 for any free one",
            ) from error
        return port


def serve(config: ServeConfig, events: EventSender | None = None, stop: threading.Event | None = None) -> int:
    """Start the servers, print their addresses, and block until SIGINT or SIGTERM.

    Args:
        config: settings of the servers.
        events: is told what happens.
        stop: ends the servers as a signal does.

    Returns:
        the exit status: 0 after an orderly stop, 1 if a server cannot start or ends too often (which has been said).
    """
    events, stop = events or EventSender(), stop or threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        with Supervisor(config, stop) as supervisor:
            text = f"loading {config.model}"
            say(text)
            events.send("progress", text=text)
            supervisor.start()
            if stop.is_set():
                say("stopped before it was ready")
                return 0
            urls = [replica.url for replica in supervisor.replicas]
            for url in urls:
                say(f"ready at {url}")
            events.send("ready", urls=urls, info=supervisor.replicas[0].info)
            supervisor.watch()
            say("stopping")
            return 0
    except SemscaleError as error:
        print(f"semscale serve: error: {error}", file=sys.stderr, flush=True)
        events.error(error)
        return 1


def _exit_reason(status: int) -> str:
    """Say how a process ended.

    >>> _exit_reason(-9), _exit_reason(1)
    ('by signal 9 (SIGKILL)', 'with exit status 1')
    """
    if status >= 0:
        return f"with exit status {status}"
    try:
        name = f" ({signal.Signals(-status).name})"
    except ValueError:
        name = ""
    return f"by signal {-status}{name}"
