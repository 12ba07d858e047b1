"""Ray nodes as processes of their own, with token authentication; in network namespaces where that is allowed."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).parent.parent.parent
_SCRIPTS = Path(sys.executable).parent
_DASHBOARD = 8265


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Place:
    """A machine, as far as one can be had: a network namespace with a disk of its own in places, or just this one.

    Attributes:
        address: where other places reach it.
        prefix: what a command begins with to run there.
        own: folders whose content nobody else sees.
    """

    address: str
    prefix: tuple[str, ...] = ()
    own: tuple[Path, ...] = ()

    def command(self, words: Sequence[str]) -> list[str]:
        # `ip netns exec` gives the command its own view of mounts, too
        mounts = "".join(f"mount -t tmpfs own {shlex.quote(str(folder))} && " for folder in self.own)
        if not mounts:
            return [*self.prefix, *words]
        return [*self.prefix, "sh", "-c", f"{mounts} exec {shlex.join(words)}"]


@dataclass
class Nodes:
    """A cluster's processes; all of them, and all that they start, end with :meth:`close`."""

    logs: Path
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    address: str = ""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="ssr-")))  # socket paths must be short

    @property
    def access(self) -> dict[str, str]:
        """What a client's environment needs."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of everything that belongs to the cluster: that of this process, without its own Ray."""
        mine = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        mine["PATH"] = f"{_SCRIPTS}:{mine.get('PATH', '')}"
        return {**mine, **self.access, "RAY_USAGE_STATS_ENABLED": "0", "SEMSCALE_TEST_MARK": self.mark, **more}

    def start(self, words: Sequence[str], place: Place, **environment: str) -> None:
        """Start a process that stays."""
        log = (self.logs / f"process-{len(self.processes)}.log").open("wb")
        with log:
            self.processes.append(
                subprocess.Popen(
                    place.command(words),
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                    env=self.environment(**environment),
                )
            )

    def start_head(self, place: Place, **environment: str) -> None:
        ports = [6379, _DASHBOARD] if place.prefix else [free_port(), free_port()]
        host = place.address if place.prefix else "127.0.0.1"
        self.address = f"http://{host}:{ports[1]}"
        words = ["ray", "start", "--head", f"--port={ports[0]}", f"--dashboard-host={host}"]
        words += [f"--dashboard-port={ports[1]}", f"--temp-dir={self.folder}", "--include-dashboard=true"]
        self._start_ray(words, place, environment)
        self._gcs = f"{place.address}:{ports[0]}"
        self.wait(1)

    def start_worker(self, place: Place, **environment: str) -> None:
        self._start_ray(["ray", "start", f"--address={self._gcs}"], place, environment)

    def _start_ray(self, words: list[str], place: Place, environment: dict[str, str]) -> None:
        words += ["--block", "--num-cpus=2", "--object-store-memory=200000000", "--disable-usage-stats"]
        if place.prefix:
            words += [f"--node-ip-address={place.address}"]
        else:  # ports that are fixed unless said otherwise
            names = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port")
            words += [f"--{name}={free_port()}" for name in (*names, "runtime-env-agent-port")]
            words += [f"--ray-client-server-port={free_port()}"] if "--head" in words else []
        self.start(words, place, **environment)

    def get(self, path: str) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = requests.get(f"{self.address}{path}", headers=headers, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def wait(self, n: int) -> None:
        """Wait until so many nodes are alive."""
        for _ in range(120):
            assert all(process.poll() is None for process in self.processes), self.said()
            with suppress(requests.RequestException):
                summary = self.get("/nodes?view=summary")["data"]["summary"]
                if sum(node["raylet"].get("state") == "ALIVE" for node in summary) >= n:
                    return
            time.sleep(0.5)
        raise AssertionError(self.said())

    def said(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in sorted(self.logs.glob("process-*.log")))

    def living(self) -> dict[int, str]:
        """Return the command lines of all processes of the cluster."""
        found = {}
        mark = f"SEMSCALE_TEST_MARK={self.mark}".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def close(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(15)
        for _ in range(100):
            left = self.living()
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if not left:
                break
            time.sleep(0.1)
        for process in self.processes:
            process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def machines(n: int, own: Sequence[Path]) -> Iterator[list[Place]]:
    """Give so many places; those after the first do not see what is in the folders `own`.

    Without the right to make network namespaces all of them are this machine.
    """
    name, net = f"ss{os.getpid() % 10_000}", "10.213.77"
    made: list[list[str]] = []

    def ip(*words: str, undo: list[str] | None = None) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)
        if undo:
            made.append(undo)

    places = []
    try:
        ip("link", "add", name, "type", "bridge", undo=["link", "del", name])
        ip("addr", "add", f"{net}.254/24", "dev", name)
        ip("link", "set", name, "up")
        for i in range(n):
            there = f"{name}-{i}"
            ip("netns", "add", there, undo=["netns", "del", there])
            ip("link", "add", there, "type", "veth", "peer", "name", "eth0", "netns", there)
            ip("link", "set", there, "master", name, "up")
            for words in (
                ["addr", "add", f"{net}.{i + 1}/24", "dev", "eth0"],
                ["link", "set", "eth0", "up"],
                ["link", "set", "lo", "up"],
                ["route", "add", "default", "via", f"{net}.254"],
            ):
                ip("-n", there, *words)
            places.append(Place(f"{net}.{i + 1}", ("ip", "netns", "exec", there), tuple(own) if i else ()))
    except (OSError, subprocess.CalledProcessError):
        places = [Place("127.0.0.1") for _ in range(n)]
    try:
        yield places
    finally:
        for words in reversed(made):
            subprocess.run(["ip", *words], check=False, capture_output=True)
