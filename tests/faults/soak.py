"""A soak: a sweep over and over, with a random fault every 20 to 40 s; what comes out must be what came out without.

    python -m tests.faults.soak --minutes 30

Two servers of semscale, an MLflow server and a local Ray stay for the whole time; each loop has a fresh store, run
directory and experiment. The last lines say how many loops and faults there were, what was lost or doubled (status 1
if anything was), and the memory of the servers and of this process after each loop.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

os.environ.update(NO_VERSION_CHECK="1", JINA_OPTOUT_TELEMETRY="1", RAY_USAGE_STATS_ENABLED="0")

import pandas as pd
import psutil
from mlflow import MlflowClient

from semscale.config import study_from
from semscale.encoding.store import EmbeddingStore
from semscale.errors import SemscaleError
from semscale.sweep.cluster import ray_cluster
from semscale.sweep.progress import Quiet
from semscale.sweep.study import sweep

sys.path.insert(0, str(Path(__file__).parent))
from mlflow_server import MlflowServer

STUDY: dict[str, Any] = {
    "name": "soak",
    "datasets": ["digits", "shapes"],
    "strategies": ["templates"],
    "controls": ["duplicates"],
    "steps": 4,
    "encoding": {"batch_size": 16},
}
IMAGES = 896 + 1200


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """`semscale serve` on a port of its own, in a session of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"grpc://127.0.0.1:{self.port}"
        self._log = folder / f"server-{self.port}.log"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "semscale", "serve", "--replicas", "2", "--port", str(self.port)]
        with self._log.open("a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
        self.process.wait(20)

    def replicas(self) -> list[psutil.Process]:
        """The processes that hold models: the largest ones below the first."""
        below = psutil.Process(self.process.pid).children(recursive=True)
        return sorted(below, key=lambda process: process.memory_info().rss)[-2:]

    def memory(self) -> float:
        """MiB of all its processes, shared pages counted once."""
        try:
            first = psutil.Process(self.process.pid)
            return sum(one.memory_full_info().pss for one in (first, *first.children(recursive=True))) / 2**20
        except psutil.Error:
            return float("nan")


class Saboteur(threading.Thread):
    """Strikes every so many seconds until it is told to stop; a fault is mended before the next one."""

    def __init__(self, servers: list[Server], mlflow: MlflowServer, every: tuple[float, float], seed: int) -> None:
        super().__init__(daemon=True)
        self.store: Path | None = None
        self.struck: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self._servers, self._mlflow, self._every = servers, mlflow, every
        self._random = random.Random(seed)
        self._over = threading.Event()

    def stop(self) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        faults: list[Callable[[], bool]] = [
            self.replica, self.server, self.actor, self.stopped_server, self.mlflow, self.bit,
        ]  # fmt: skip
        order: list[Callable[[], bool]] = []
        while not self._over.wait(self._random.uniform(*self._every)):
            order = order or self._random.sample(faults, len(faults))  # each once before any comes again
            fault = order.pop()
            try:
                hit = fault()
            except (psutil.Error, ProcessLookupError):  # what was to be struck had just ended
                hit = False
            (self.struck if hit else self.missed)[fault.__name__] += 1
            print(f"  {time.strftime('%H:%M:%S')} {fault.__name__}{'' if hit else ': nothing to strike'}", flush=True)

    def replica(self) -> bool:
        self._random.choice(self._random.choice(self._servers).replicas()).kill()
        return True

    def server(self) -> bool:
        server = self._random.choice(self._servers)
        server.kill()
        self._over.wait(5)
        server.start()
        return True

    def actor(self) -> bool:
        below = psutil.Process().children(recursive=True)
        actors = [one for one in below if "ray::EncoderActor" in " ".join(one.cmdline())]
        if actors:
            self._random.choice(actors).kill()
        return bool(actors)

    def stopped_server(self) -> bool:
        server = self._random.choice(self._servers)
        server.signal(signal.SIGSTOP)
        self._over.wait(10)
        server.signal(signal.SIGCONT)
        return True

    def mlflow(self) -> bool:
        self._mlflow.kill()
        self._over.wait(5)
        self._mlflow.start()
        return True

    def bit(self) -> bool:
        segments = sorted(self.store.glob("*/*/*.parquet")) if self.store else []
        if not segments:
            return False
        path = self._random.choice(segments)
        with path.open("r+b") as file:
            place = path.stat().st_size // 2
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ (1 << self._random.randrange(8))]))
        return True


def remains(folder: Path, uri: str, experiment: str) -> dict[str, Any]:
    """What a sweep leaves behind and every sweep must leave alike, and what of it is lost or doubled."""
    run = folder / "run"
    tables = {}
    for name in ("trials", "curves", "steps"):
        table = pd.read_parquet(run / f"{name}.parquet")
        tables[name] = table.drop(columns=[column for column in table.columns if "run_id" in column])
    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    kinds = Counter(one.data.tags["kind"] for one in runs)
    points = Counter(
        len(client.get_metric_history(one.info.run_id, "accuracy")) for one in runs if one.data.tags["kind"] == "trial"
    )
    return {
        "tables": tables,
        "predictions": {path.name: path.read_bytes() for path in sorted((run / "predictions").iterdir())},
        "runs": kinds,
        "unfinished": sum(one.info.status != "FINISHED" for one in runs),
        "points": points,
        "images": sum(len(EmbeddingStore(path)) for path in (folder / "store").glob("*/image")),
    }


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Name what is not as it was without faults."""
    found = [name for name in theirs["tables"] if not ours["tables"][name].equals(theirs["tables"][name])]
    return found + [
        f"{name}: {ours[name]} instead of {theirs[name]}" if name != "predictions" else name
        for name in ("predictions", "runs", "unfinished", "points", "images")
        if ours[name] != theirs[name]
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--every", type=float, nargs=2, default=(20.0, 40.0), metavar=("LEAST", "MOST"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as place, ray_cluster(None):
        return _soak(Path(place), options)


def _soak(place: Path, options: argparse.Namespace) -> int:
    servers = [Server(place) for _ in range(2)]
    mlflow = MlflowServer(free_port(), place / "mlflow")
    mlflow.start()

    def one(name: str, saboteur: Saboteur | None) -> dict[str, Any]:
        folder = place / name
        if saboteur:
            saboteur.store = folder / "store"
        tree = {
            **STUDY,
            "server": {"urls": [server.url for server in servers]},
            "store": str(folder / "store"),
            "tracking": {"uri": mlflow.url, "experiment": name},
        }
        while True:  # a sweep does not begin without MLflow; it only goes on without
            mlflow.wait()
            try:
                result = sweep(study_from(tree), folder / "run", Quiet())
                break
            except SemscaleError as error:
                if "MLflow's store cannot be opened" not in str(error):
                    raise
        if saboteur:
            saboteur.store = None
        mlflow.wait()
        return remains(folder, mlflow.url, name) | {"sent": result.images_sent}

    saboteur = Saboteur(servers, mlflow, tuple(options.every), options.seed)
    wrong: list[str] = []
    memory: list[dict[str, float]] = []
    loops = 0
    try:
        mlflow.wait()
        undisturbed = one("undisturbed", None)
        assert undisturbed["images"] == undisturbed["sent"] == IMAGES
        saboteur.start()
        end = time.monotonic() + 60 * options.minutes
        while time.monotonic() < end:
            name = f"loop-{loops:03}"
            start, bits = time.monotonic(), saboteur.struck["bit"]
            try:
                found = one(name, saboteur)
                if saboteur.struck["bit"] > bits:
                    # a segment damaged after its last reading lacks until the next sweep encodes it again
                    found["images"] = undisturbed["images"]
                wrong += [f"{name}: {line}" for line in differences(found, undisturbed)]
                told = f"{found['sent']} images sent"
            except Exception as error:
                wrong.append(f"{name}: {error}")
                told = f"ended with {error}"
            loops += 1
            figures = {
                "servers": sum(map(Server.memory, servers)),
                "driver": psutil.Process().memory_info().rss / 2**20,
            }
            memory.append({who: round(size, 1) for who, size in figures.items()})
            print(f"{name}: {time.monotonic() - start:.0f} s, {told}, MiB {memory[-1]}", flush=True)
    finally:
        if saboteur.is_alive():
            saboteur.stop()
        mlflow.kill()
        for server in servers:
            server.signal(signal.SIGCONT) if server.process.poll() is None else None
            server.kill()
    print(json.dumps({"loops": loops, "faults": saboteur.struck, "missed": saboteur.missed, "memory": memory}))
    print("\n".join(wrong) or "nothing lost, nothing doubled, nothing different")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
