"""Replicas: the processes of `semscale serve`, one clip-server each, started again when they end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from multiprocessing.connection import Connection, wait
from typing import Literal

from semscale.access import read_token
from semscale.errors import SemscaleError
from semscale.serving.config import ServeConfig, check_certificate
from semscale.serving.process import VISIBLE, receive, say, start_process

COMMAND = [sys.executable, "-m", "semscale.serving.server"]
# An image that brings the model down is found in a few requests, each of which costs a process; servers that end more
# often than this, or never come up, do nobody any good.
MOST_ENDS = 20
WINDOW = 300.0
MOST_FAILED_STARTS = 5
_TICK = 0.2
_STOP_SECONDS = 6.0


class Replica:
    """One server process."""

    def __init__(self, number: int, config: ServeConfig, gpu: str | None) -> None:
        self.number = number
        self.config = config
        self.environment = os.environ | ({VISIBLE: gpu} if gpu is not None else {})
        self.process: subprocess.Popen[bytes] | None = None
        self._ends: deque[float] = deque(maxlen=MOST_ENDS + 1)
        self._failed_starts = 0

    def start(self) -> None:
        """Start the process."""
        self.ready = False
        self.begun = time.monotonic()
        settings = {"config": asdict(self.config), "number": self.number}
        self.process, self.events = start_process(COMMAND, settings, env=self.environment)

    def restart(self) -> None:
        """Start the process again after it has ended, unless it does so too often."""
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
            raise SemscaleError(
                f"replica {self.number} ended {times}; the server stops", found=f"at last {how}", hint=hint
            )
        say(f"replica {self.number} ended {how}; starting it again")
        self.start()


class Supervisor:
    """Starts the replicas and starts again what ends, until `stop` is set; a context manager, which ends them all."""

    def __init__(self, config: ServeConfig, stop: threading.Event) -> None:
        self._stop = stop
        self._reserved = ExitStack()
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
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        threads = config.num_threads or max(1, cores // config.replicas)
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
        started = [replica.process for replica in self.replicas if replica.process is not None]
        for process in started:
            process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for process in started:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._reserved.close()

    def run(self, launcher: Connection | None) -> None:
        """Start all replicas, say when they are ready, also to the launcher, and start again what ends."""
        for replica in self.replicas:
            replica.start()
        ready = False
        while not self._stop.is_set():
            for replica, event in self._events():
                if isinstance(event, SemscaleError):
                    if not ready:
                        raise event
                    say(f"replica {replica.number}: {event}")
                elif event is not None:
                    replica.ready = True
                    if ready:
                        say(f"replica {replica.number} is back after {time.monotonic() - replica.begun:.1f} s")
                # A signal may reach all processes at once: the replicas may end before this one has heard of it.
                elif not self._stop.wait(_TICK):
                    if not ready:
                        what = "a process of the server ended while it was starting"
                        raise SemscaleError(what, hint="the lines above say why")
                    replica.restart()
            if not ready and all(replica.ready for replica in self.replicas):
                ready = True
                urls = [replica.config.url for replica in self.replicas]
                for url in urls:
                    say(f"ready at {url}")
                if launcher is not None:
                    launcher.send(urls)

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
            raise SemscaleError("the server cannot listen there", where=where, found=found, hint=hint) from error
        return port


def serve(config: ServeConfig, launcher: Connection | None = None, stop: threading.Event | None = None) -> int:
    """Start the servers, print their addresses, and block until SIGINT or SIGTERM, or until `stop` is set.

    Returns the exit status: 0 after an orderly stop, 1 if a server cannot start or ends too often (which has been
    said, and sent to the launcher).
    """
    stop = stop or threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        with Supervisor(config, stop) as supervisor:
            say(f"loading {config.model}")
            supervisor.run(launcher)
            say("stopping")
            return 0
    except SemscaleError as error:
        print(f"semscale serve: error: {error}", file=sys.stderr, flush=True)
        if launcher is not None:
            with suppress(OSError):
                launcher.send(error)
        return 1


def visible_gpus() -> list[str]:
    """Return the names of the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` takes them."""
    names = os.environ.get(VISIBLE)
    if names is not None:
        return [name.strip() for name in names.split(",") if name.strip()]
    # torch counts them, in a process of its own: this one only starts others and stays small
    command = [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"]
    count = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return [str(number) for number in range(int(count) if count.isdigit() else 0)]


def choose_gpus(wanted: str, visible: Sequence[str]) -> list[str]:
    """Return the GPUs, of those visible, that ``all`` or a list of numbers and UUIDs stands for.

    >>> choose_gpus("all", ["0", "1"]), choose_gpus("1", ["2", "3"]), choose_gpus("GPU-5e", ["GPU-5e", "GPU-7a"])
    (['0', '1'], ['3'], ['GPU-5e'])
    """
    if not visible:
        hint = "leave it away for a server on the CPU, or mend the NVIDIA driver (check with `nvidia-smi`)"
        raise SemscaleError("this machine has no GPU that torch can use", where="--gpus", found=wanted, hint=hint)
    by_name = {str(number): name for number, name in enumerate(visible)}
    by_name |= {name: name for name in visible if not name.isdigit()}
    names = [name.strip() for name in wanted.split(",")] if wanted != "all" else list(map(str, range(len(visible))))
    if unknown := [name for name in names if name not in by_name]:
        found, expected = unknown[0] or "an empty name", f"all, or some of {', '.join(by_name)}"
        raise SemscaleError("there is no such GPU", where="--gpus", found=found, expected=expected)
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
