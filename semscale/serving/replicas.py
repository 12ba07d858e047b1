"""Supervisor of the replicas of `semscale serve`: a clip-server process each, restarted when it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from functools import partial
from multiprocessing.connection import wait
from typing import IO, Any, Literal

from semscale.common.access import TOKEN_VARIABLE, read_token
from semscale.common.environment import python_command
from semscale.common.errors import ConfigError, SemscaleError, ServerError
from semscale.serving.server_config import ServeConfig, check_certificate
from semscale.serving.server_process import GPU_VARIABLE, print_line, receive_event, start_process

COMMAND = python_command("-m", "semscale.serving.server")
# An image that crashes the model is isolated in a few requests, each of which costs a process; servers that end more
# often, or never become ready, are of no use.
MAX_EXITS = 20
EXIT_WINDOW = 300.0
MAX_FAILED_STARTS = 5
_TICK = 0.2
_STOP_SECONDS = 6.0


class Replica:
    """Server process, started with options of `Popen`."""

    def __init__(self, number: int, config: ServeConfig, options: dict[str, Any]) -> None:
        self.number = number
        self.config = config
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None
        self._exit_times: deque[float] = deque(maxlen=MAX_EXITS + 1)
        self._failed_starts = 0

    def start(self) -> None:
        """Start the process."""
        self.ready = False
        self.started_at = time.monotonic()
        settings = {"config": asdict(self.config), "number": self.number}
        self.process, self.events = start_process(COMMAND, settings, **self.options)

    def restart(self) -> str:
        """Restart the process after its end and return how it ended; raise ServerError if it ends too often."""
        assert self.process is not None
        reason = _exit_reason(self.process.wait())
        self.events.close()
        self._exit_times.append(time.monotonic())
        self._failed_starts = 0 if self.ready else self._failed_starts + 1
        count = None
        if self._failed_starts >= MAX_FAILED_STARTS:
            count = f"{self._failed_starts} times before it was ready"
        elif len(self._exit_times) > MAX_EXITS and self._exit_times[-1] - self._exit_times[0] <= EXIT_WINDOW:
            count = f"{len(self._exit_times)} times within {EXIT_WINDOW:g} seconds"
        if count:
            hint = "see the lines above; a replica that is killed may need more memory"
            raise ServerError(
                f"replica {self.number} ended {count}; the server stops", found=f"at last {reason}", hint=hint
            )
        self.start()
        return reason


class Supervisor:
    """Starts the replicas and restarts those that end, until `stop` is set; as a context manager it ends them all.

    With a `log` the replicas run in sessions of their own, without the token of the environment: it is for other
    servers, and on the loopback address they need none.
    """

    def __init__(self, config: ServeConfig, stop: threading.Event, log: IO[str] | None = None) -> None:
        self._stop = stop
        self._log = partial(print_line, log=log)
        self._reserved = ExitStack()
        environment = dict(os.environ)
        options: dict[str, Any] = {}
        if log is not None:
            environment.pop(TOKEN_VARIABLE, None)
            options = {"stdout": log, "stderr": log, "start_new_session": True}
        has_token = log is None and read_token(config.token_file) is not None
        check_certificate(config.tls_cert, config.tls_key)
        gpus: list[str] = []
        if config.gpus is not None:
            gpus = choose_gpus(config.gpus, visible_gpus())
            config = replace(config, device="cuda", replicas=len(gpus) * config.per_gpu, gpus=None)
        elif config.device == "cuda":
            gpus = visible_gpus()
        if warning := config.exposure_warning(has_token):
            self._log(warning)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        threads = config.num_threads or max(1, cores // config.replicas)
        self.replicas: list[Replica] = []
        for number in range(config.replicas):
            port = self._reserve_port(config.host, config.port + number if config.port else 0)
            metrics_port = None if config.metrics_port is None else config.metrics_port + number
            settings = replace(config, replicas=1, port=port, num_threads=threads, metrics_port=metrics_port)
            visible = {GPU_VARIABLE: gpus[number // config.per_gpu % len(gpus)]} if gpus else {}
            self.replicas.append(Replica(number, settings, options | {"env": environment | visible}))
            if metrics_port is not None:
                page = f"http{'s' if config.tls_cert else ''}://{config.metrics_host(has_token)}:{metrics_port}"
                self._log(f"metrics of replica {number} at {page}")

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> None:
        if error is None:
            self._log("stopping")
        started = [replica.process for replica in self.replicas if replica.process is not None]
        for process in started:
            process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for process in started:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                with suppress(subprocess.TimeoutExpired):  # one that hangs in a driver survives that
                    process.wait(_STOP_SECONDS)
        self._reserved.close()

    def run(self, on_ready: Callable[[list[str]], None]) -> None:
        """Start all replicas, call `on_ready` with their addresses when all are ready, and restart those that end."""
        self._log(f"loading {self.replicas[0].config.model}")
        for replica in self.replicas:
            replica.start()
        ready = False
        while not self._stop.is_set():
            for replica, event in self._events():
                if isinstance(event, SemscaleError):
                    if not ready:
                        raise event
                    self._log(f"replica {replica.number}: {event}")
                elif event is not None:
                    replica.ready = True
                    if ready:
                        seconds = time.monotonic() - replica.started_at
                        self._log(f"replica {replica.number} is back after {seconds:.1f} s")
                # A signal may reach all processes: the replicas may end before this one has handled it.
                elif not self._stop.wait(_TICK):
                    if not ready:
                        raise ServerError("a process of the server ended while it was starting")
                    self._log(f"replica {replica.number} ended {replica.restart()}; starting it again")
            if not ready and all(replica.ready for replica in self.replicas):
                ready = True
                urls = [replica.config.url for replica in self.replicas]
                for url in urls:
                    self._log(f"ready at {url}")
                on_ready(urls)

    def _events(self) -> Iterator[tuple[Replica, Literal[True] | SemscaleError | None]]:
        """Wait a moment and yield the replicas with an event: ready (True), failed to start, or ended (None)."""
        readable = wait([replica.events for replica in self.replicas], _TICK)
        yield from ((replica, receive_event(replica.events)) for replica in self.replicas if replica.events in readable)

    def _reserve_port(self, host: str, port: int) -> int:
        """Return a port that is free, or any free one for 0, and reserve it for the process that will listen on it."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
                port = int(probe.getsockname()[1])
            # Bound but not listening: no other process gets the port, not even during a restart; gRPC listens with
            # SO_REUSEPORT.
            reservation = self._reserved.enter_context(socket.socket(family))
            reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            reservation.bind((host, port))
        except (OSError, OverflowError) as error:
            where, found = f"{host}:{port}", getattr(error, "strerror", None) or str(error)
            what, hint = "the server cannot listen on this address", "choose another --port, or 0 for any free one"
            raise ServerError(what, where=where, found=found, hint=hint) from error
        return port


def serve(config: ServeConfig) -> None:
    """Start the servers, print their addresses, and block until SIGINT or SIGTERM."""
    stop = threading.Event()

    def end(*_: object) -> None:
        if not stop.is_set():
            signal.setitimer(signal.ITIMER_REAL, 3 * _STOP_SECONDS)  # ends this process if it hangs
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    with Supervisor(config, stop) as supervisor:
        supervisor.run(lambda urls: None)
    signal.setitimer(signal.ITIMER_REAL, 0)


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, by the names of ``CUDA_VISIBLE_DEVICES``."""
    names = os.environ.get(GPU_VARIABLE)
    if names is not None:
        return [name.strip() for name in names.split(",") if name.strip()]
    # torch counts them in another process, so that this one stays small
    command = python_command("-c", "import torch; print(torch.cuda.device_count())")
    count = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return [str(number) for number in range(int(count) if count.isdigit() else 0)]


def choose_gpus(selection: str, visible: Sequence[str]) -> list[str]:
    """Return those of the visible GPUs that ``all`` or a list of numbers and UUIDs selects.

    >>> choose_gpus("all", ["0", "1"]), choose_gpus("1", ["2", "3"]), choose_gpus("GPU-5e", ["GPU-5e", "GPU-7a"])
    (['0', '1'], ['3'], ['GPU-5e'])
    """
    if not visible:
        hint = "omit it for a server on the CPU, or fix the NVIDIA driver (check with `nvidia-smi`)"
        raise ServerError("this machine has no GPU that torch can use", where="--gpus", found=selection, hint=hint)
    by_name = {str(number): name for number, name in enumerate(visible)}
    by_name |= {name: name for name in visible if not name.isdigit()}
    parts = map(str, range(len(visible))) if selection == "all" else selection.split(",")
    names = [part.strip() for part in parts]
    if unknown := [name for name in names if name not in by_name]:
        found, expected = unknown[0] or "an empty name", f"all, or some of {', '.join(by_name)}"
        raise ConfigError("there is no such GPU", where="--gpus", found=found, expected=expected)
    return [by_name[name] for name in names]


def _exit_reason(status: int) -> str:
    """Return how a process ended.

    >>> _exit_reason(-9), _exit_reason(1)
    ('by signal 9 (SIGKILL)', 'with exit status 1')
    """
    if status >= 0:
        return f"with exit status {status}"
    known = {number.value for number in signal.Signals}
    return f"by signal {-status}" + (f" ({signal.Signals(-status).name})" if -status in known else "")
