"""Replicas: the processes of `semscale serve`, one clip-server each, started again when they end."""

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
from semscale.common.environment import python
from semscale.common.errors import SemscaleError, ServerError
from semscale.serving.server_config import ServeConfig, check_certificate
from semscale.serving.server_process import VISIBLE, receive, say, start_process

COMMAND = python("-m", "semscale.serving.server")
# An image that brings the model down is found in a few requests, each of which costs a process; servers that end more
# often than this, or never come up, do nobody any good.
MOST_ENDS = 20
WINDOW = 300.0
MOST_FAILED_STARTS = 5
_TICK = 0.2
_STOP_SECONDS = 6.0


class Replica:
    """One server process, started with these options of `Popen`."""

    def __init__(self, number: int, config: ServeConfig, options: dict[str, Any]) -> None:
        self.number = number
        self.config = config
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None
        self._ends: deque[float] = deque(maxlen=MOST_ENDS + 1)
        self._failed_starts = 0

    def start(self) -> None:
        """Start the process."""
        self.ready = False
        self.begun = time.monotonic()
        settings = {"config": asdict(self.config), "number": self.number}
        self.process, self.events = start_process(COMMAND, settings, **self.options)

    def restart(self) -> str:
        """Start the process again after it has ended, unless it does so too often, and say how it ended."""
        assert self.process is not None
        how = _exit_reason(self.process.wait())
        self.events.close()
        self._ends.append(time.monotonic())
        self._failed_starts = 0 if self.ready else self._failed_starts + 1
        times = None
        if self._failed_starts >= MOST_FAILED_STARTS:
            times = f"{self._failed_starts} times before it was ready"
        elif len(self._ends) > MOST_ENDS and self._ends[-1] - self._ends[0] <= WINDOW:
            times = f"{len(self._ends)} times within {WINDOW:g} seconds"
        if times:
            hint = "the lines above say why; a replica that is killed may need more memory"
            raise ServerError(
                f"replica {self.number} ended {times}; the server stops", found=f"at last {how}", hint=hint
            )
        self.start()
        return how


class Supervisor:
    """Starts the replicas and starts again what ends, until `stop` is set; a context manager, which ends them all.

    With a `log` the replicas have sessions of their own, and the token of the environment, which is for others, stays
    out of theirs: on the loopback address they need none.
    """

    def __init__(self, config: ServeConfig, stop: threading.Event, log: IO[str] | None = None) -> None:
        self._stop = stop
        self._say = partial(say, log=log)
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
        if warning := config.exposure(has_token):
            self._say(warning)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        threads = config.num_threads or max(1, cores // config.replicas)
        self.replicas: list[Replica] = []
        for number in range(config.replicas):
            port = self._reserve_port(config.host, config.port + number if config.port else 0)
            metrics_port = None if config.metrics_port is None else config.metrics_port + number
            own = replace(config, replicas=1, port=port, num_threads=threads, metrics_port=metrics_port)
            visible = {VISIBLE: gpus[number // config.per_gpu % len(gpus)]} if gpus else {}
            self.replicas.append(Replica(number, own, options | {"env": environment | visible}))
            if metrics_port is not None:
                page = f"http{'s' if config.tls_cert else ''}://{config.metrics_host(has_token)}:{metrics_port}"
                self._say(f"metrics of replica {number} at {page}")

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> None:
        if error is None:
            self._say("stopping")
        started = [replica.process for replica in self.replicas if replica.process is not None]
        for process in started:
            process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for process in started:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                with suppress(subprocess.TimeoutExpired):  # one that hangs in a driver does not even end by that
                    process.wait(_STOP_SECONDS)
        self._reserved.close()

    def run(self, on_ready: Callable[[list[str]], None]) -> None:
        """Start all replicas, say when they are ready, call `on_ready` with the addresses, start again what ends."""
        self._say(f"loading {self.replicas[0].config.model}")
        for replica in self.replicas:
            replica.start()
        ready = False
        while not self._stop.is_set():
            for replica, event in self._events():
                if isinstance(event, SemscaleError):
                    if not ready:
                        raise event
                    self._say(f"replica {replica.number}: {event}")
                elif event is not None:
                    replica.ready = True
                    if ready:
                        self._say(f"replica {replica.number} is back after {time.monotonic() - replica.begun:.1f} s")
                # A signal may reach all processes at once: the replicas may end before this one has heard of it.
                elif not self._stop.wait(_TICK):
                    if not ready:
                        raise ServerError("a process of the server ended while it was starting")
                    self._say(f"replica {replica.number} ended {replica.restart()}; starting it again")
            if not ready and all(replica.ready for replica in self.replicas):
                ready = True
                urls = [replica.config.url for replica in self.replicas]
                for url in urls:
                    self._say(f"ready at {url}")
                on_ready(urls)

    def _events(self) -> Iterator[tuple[Replica, Literal[True] | SemscaleError | None]]:
        """Yield the replicas that are ready, cannot start or have ended within a moment."""
        heard = wait([replica.events for replica in self.replicas], _TICK)
        yield from ((replica, receive(replica.events)) for replica in self.replicas if replica.events in heard)

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
            reservation = self._reserved.enter_context(socket.socket(family))
            reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            reservation.bind((host, port))
        except (OSError, OverflowError) as error:
            where, found = f"{host}:{port}", getattr(error, "strerror", None) or str(error)
            hint = "choose another --port, or 0 for any free one"
            raise ServerError("the server cannot listen there", where=where, found=found, hint=hint) from error
        return port


def serve(config: ServeConfig) -> None:
    """Start the servers, print their addresses, and block until SIGINT or SIGTERM."""
    stop = threading.Event()

    def end(*_: object) -> None:
        if not stop.is_set():
            signal.setitimer(signal.ITIMER_REAL, 3 * _STOP_SECONDS)  # its signal ends a process that hangs
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    with Supervisor(config, stop) as supervisor:
        supervisor.run(lambda urls: None)
    signal.setitimer(signal.ITIMER_REAL, 0)


def visible_gpus() -> list[str]:
    """Return the names of the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` takes them."""
    names = os.environ.get(VISIBLE)
    if names is not None:
        return [name.strip() for name in names.split(",") if name.strip()]
    # torch counts them, in a process of its own: this one only starts others and stays small
    command = python("-c", "import torch; print(torch.cuda.device_count())")
    count = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return [str(number) for number in range(int(count) if count.isdigit() else 0)]


def choose_gpus(wanted: str, visible: Sequence[str]) -> list[str]:
    """Return the GPUs, of those visible, that ``all`` or a list of numbers and UUIDs stands for.

    >>> choose_gpus("all", ["0", "1"]), choose_gpus("1", ["2", "3"]), choose_gpus("GPU-5e", ["GPU-5e", "GPU-7a"])
    (['0', '1'], ['3'], ['GPU-5e'])
    """
    if not visible:
        hint = "leave it away for a server on the CPU, or mend the NVIDIA driver (check with `nvidia-smi`)"
        raise ServerError("this machine has no GPU that torch can use", where="--gpus", found=wanted, hint=hint)
    by_name = {str(number): name for number, name in enumerate(visible)}
    by_name |= {name: name for name in visible if not name.isdigit()}
    names = [name.strip() for name in wanted.split(",")] if wanted != "all" else list(map(str, range(len(visible))))
    if unknown := [name for name in names if name not in by_name]:
        found, expected = unknown[0] or "an empty name", f"all, or some of {', '.join(by_name)}"
        raise ServerError("there is no such GPU", where="--gpus", found=found, expected=expected)
    return [by_name[name] for name in names]


def _exit_reason(status: int) -> str:
    """Say how a process ended.

    >>> _exit_reason(-9), _exit_reason(1)
    ('by signal 9 (SIGKILL)', 'with exit status 1')
    """
    if status >= 0:
        return f"with exit status {status}"
    known = {number.value for number in signal.Signals}
    return f"by signal {-status}" + (f" ({signal.Signals(-status).name})" if -status in known else "")
