"""The faults of the soak: a thread that strikes at random moments, each kind of fault before any comes again."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from mlflow_server import MlflowServer

from semscale.common.progress import SilentReporter

STOPPED_S = 20.0
AWAY_S = 5.0
_MOMENT_S = 90.0


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def two_free_ports() -> int:
    """Return a free port whose successor is free as well."""
    while True:
        port = free_port()
        with closing(socket.socket()) as second, suppress(OSError, OverflowError):
            second.bind(("127.0.0.1", port + 1))
            return port


class Server:
    """`semscale serve` with two replicas, on two ports and in a session of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = two_free_ports()
        self.urls = [f"grpc://127.0.0.1:{port}" for port in (self.port, self.port + 1)]
        self._log = folder / f"server-{self.port}.log"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "semscale", "serve", "--replicas", "2", "--port", str(self.port)]
        with self._log.open("a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)

    def below(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def replicas(self) -> list[psutil.Process]:
        """The processes that hold models: the two largest ones below the first."""
        return sorted(self.below(), key=lambda process: process.memory_info().rss)[-2:]

    def memory(self) -> float | None:
        """MiB of all its processes, shared pages counted once; None while some of them are away."""
        try:
            family = [psutil.Process(self.process.pid), *self.below()]
            sizes = [one.memory_full_info().pss for one in family]
        except psutil.Error:
            return None
        return sum(sizes) / 2**20 if len(sizes) > 3 else None


class Stages(SilentReporter):
    """Knows at which stage a sweep is."""

    def __init__(self) -> None:
        self.now = ""

    @contextmanager
    def stage(self, title: str, total: int | None = None, unit: str = "") -> Iterator[Any]:
        self.now = title
        yield lambda done, total: None
        self.now = ""


class Saboteur(threading.Thread):
    """Strikes every so many seconds until it is told to stop; a fault is mended before the next one.

    Attributes:
        stages: the sweep's, so that each fault meets work that it can disturb.
        store: the sweep's.
        wants_driver: the next sweep is to be begun by a process that is killed; cleared when that is done.
        struck, missed: how often; a fault that finds nothing to strike comes again.
    """

    def __init__(self, servers: list[Server], mlflow: MlflowServer, every: tuple[float, float], seed: int) -> None:
        super().__init__(daemon=True)
        self.stages = Stages()
        self.store: Path | None = None
        self.wants_driver = threading.Event()
        self.struck: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self._servers, self._mlflow, self._every = servers, mlflow, every
        self.random = random.Random(seed)
        self._over = threading.Event()
        self._longest, self._once = STOPPED_S, False
        self.faults: dict[str, Callable[[], bool]] = {
            "replica killed": self._replica,
            "whole server killed": self._server,
            "replica stopped": self._stopped_replica,
            "actor killed": self._actor,
            "MLflow away": self._tracking,
            "driver killed": self._driver,
            "bit flipped": self._bit,
        }

    def keep(self, names: Collection[str], seconds: float) -> None:
        """Strike with these faults only, once each, none for longer than this."""
        self.faults = {name: fault for name, fault in self.faults.items() if name in names}
        self._longest, self._once = seconds, True

    def stop(self) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        order: list[str] = []
        while not self._over.wait(self.random.uniform(*self._every)):
            if not order and self._once and self.struck:
                return
            order = order or self.random.sample(list(self.faults), len(self.faults))
            name = order.pop()
            hit = False
            with suppress(psutil.Error, ProcessLookupError):  # what was to be struck had just ended
                hit = self.faults[name]()
            if hit:
                self.struck[name] += 1
            else:
                self.missed[name] += 1
                order.insert(0, name)
            print(f"  {time.strftime('%H:%M:%S')} {name}{'' if hit else ': nothing to strike'}", flush=True)

    def _amid(self, stage: str) -> bool:
        """Wait for a random moment of this stage; whether it came."""
        deadline = time.monotonic() + _MOMENT_S
        while not self._over.wait(0.02) and time.monotonic() < deadline:
            if self.stages.now.startswith(stage):
                self._over.wait(self.random.uniform(0.0, 0.5))
                if self.stages.now.startswith(stage):
                    return True
        return False

    def _replica(self) -> bool:
        if not self._amid("encoding"):
            return False
        self.random.choice(self.random.choice(self._servers).replicas()).kill()
        return True

    def _server(self) -> bool:
        if not self._amid("encoding"):
            return False
        server = self.random.choice(self._servers)
        server.kill()
        self._over.wait(min(AWAY_S, self._longest))
        server.start()
        return True

    def _stopped_replica(self) -> bool:
        if not self._amid("encoding"):
            return False
        replica = self.random.choice(self.random.choice(self._servers).replicas())
        replica.suspend()
        self._over.wait(self._longest)
        replica.resume()
        return True

    def _actor(self) -> bool:
        if not self._amid("encoding"):
            return False
        below = psutil.Process().children(recursive=True)
        actors = [one for one in below if "ray::EncoderActor" in " ".join(one.cmdline())]
        if actors:
            self.random.choice(actors).kill()
        return bool(actors)

    def _tracking(self) -> bool:
        if not self._amid(self.random.choice(["trials", "encoding", "concluding"])):
            return False
        self._mlflow.kill()
        self._over.wait(min(AWAY_S, self._longest))
        self._mlflow.start()
        return True

    def _driver(self) -> bool:
        # the driver of the other sweeps is the process of this thread
        self.wants_driver.set()
        while not self._over.wait(0.1):
            if not self.wants_driver.is_set():
                return True
        return False

    def _bit(self) -> bool:
        # scoring is over before one has looked
        if not self._amid(self.random.choice(["encoding", "trials"])):
            return False
        segments = sorted(self.store.glob("*/*/*.parquet")) if self.store else []
        if not segments:
            return False
        path = self.random.choice(segments)
        with path.open("r+b") as file:
            place = path.stat().st_size // 2
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ (1 << self.random.randrange(8))]))
        return True
