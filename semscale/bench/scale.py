"""How encoding grows with the number of endpoints, by simulation: everything is real but the model, which only waits.

    python -m semscale.bench.scale            # 1 to 16 endpoints on four Ray nodes, up to a million images
    python -m semscale.bench.scale --quick    # 1 and 2 endpoints, some hundred images

Servers are real jina Flows of :mod:`semscale.bench.waiting_server`, whose executor waits as long as a GPU would; Ray
nodes, encoder actors, handshake, ledger, packed requests and the embedding store are those of a sweep. Pictures are so
small that this machine can feed many servers: what is shown is whether the parts get into each other's way, not how
fast a photograph is decoded.

  endpoints  images per second against the number of endpoints, each of the same rate; 1 is what all of them could do
  limit      the same with servers that do not wait at all: where this machine's processors are full
  uneven     four endpoints, one of them four times slower: what it is given, and what all get done
  memory     what the driver and the ledger take at most beyond what they had, with more and more images

Processor time is that of this process and all that it started, so that other work on the machine is not counted.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import ray

from semscale.bench.alone import run_alone
from semscale.datasets.base import Dataset
from semscale.datasets.samples import Sample, SampleTable
from semscale.encoding.actor import CHUNKS
from semscale.encoding.encoder import Encoder
from semscale.encoding.handshake import shake_hands
from semscale.serving.environment import prepare_environment
from semscale.study.cluster import cluster_cpus, ray_cluster

MODEL = "waiting"
SIDE = 16  # of a picture, in pixels
LATENCY = 0.02  # seconds
RATE = 60.0  # images per second and endpoint
ENDPOINTS = (1, 2, 4, 8, 16)
NODES, CPUS = 4, 1
SLOWER = 4  # times, one of as many endpoints as this
_FREE = 4  # endpoints that do not wait: enough to keep the processors of a small machine busy
_LEAST_CHUNK = 64
SIZES = (10_000, 100_000, 1_000_000)


@dataclass(frozen=True)
class NumberReader:
    """Makes a picture of its number, as a PPM file: reading costs next to nothing."""

    name: str
    side: int = SIDE

    def read(self, place: str) -> bytes:
        """Return the picture of this number; another dataset has others."""
        pixels = hashlib.shake_128(f"{self.name} {place}".encode()).digest(self.side * self.side * 3)
        return b"P6\n%d %d\n255\n" % (self.side, self.side) + pixels


def numbered(name: str, count: int) -> Dataset:
    """Return a dataset of so many different pictures, all of one class."""
    samples = SampleTable.of(("number",), (Sample(str(number), "number") for number in range(count)))
    return Dataset(name, "number", ("number",), samples, NumberReader(name))


@contextmanager
def waiting_servers(rates: Sequence[float | None], log: Path, latency: float = LATENCY) -> Iterator[list[str]]:
    """Start an endpoint for each rate and give their addresses; they end with the context."""
    prepare_environment()
    options = {"rates": list(rates), "latency": latency, "side": SIDE}
    command = [sys.executable, "-m", "semscale.bench.waiting_server", json.dumps(options)]
    # threads for such small matrices would only disturb the machine that is measured
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment
        ) as process,
    ):
        assert process.stdout is not None
        urls = process.stdout.readline()
        if not urls:
            raise RuntimeError(f"the waiting servers do not start: {log.read_text()[-500:]}")
        yield json.loads(urls)
        # leaving closes their standard input, at which they end


@contextmanager
def ray_nodes(count: int, cpus: int) -> Iterator[None]:
    """Start so many Ray nodes on this machine; a session that is there already is used and left alone."""
    if ray.is_initialized():
        yield
        return
    from ray.cluster_utils import Cluster

    # Ray's workers stand behind everything else on their machine; these stand for machines of their own
    os.environ.setdefault("RAY_worker_niceness", "0")
    memory = {"object_store_memory": 200_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus, "include_dashboard": False, **memory})
    try:
        for _ in range(count - 1):
            cluster.add_node(num_cpus=cpus, **memory)
        with ray_cluster(cluster.address):
            yield
    finally:
        cluster.shutdown()


def processor_seconds() -> float:
    """Return what this process and all that it has started have used of the processors so far."""
    total = 0.0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.Error:  # ended meanwhile
            continue
        total += times.user + times.system
    return total


def encode(urls: Sequence[str], count: int, store: Path) -> dict[str, Any]:
    """Encode so many pictures with new actors into a new store, after they have all had some work outside the clock.

    Returns:
        images per second, processor milliseconds per image, the share of the processors that was used, what share of
        the images each endpoint got, and how much memory driver and ledger took at most beyond what they had, in bytes.
    """
    identity = shake_hands(urls, MODEL, store)
    actors = max(len(urls), int(cluster_cpus()) // 2)  # as a sweep does
    with Encoder(identity, urls, store, actors=actors) as encoder:
        encoder.encode_images(numbered("before", _LEAST_CHUNK * CHUNKS * actors))
        before = encoder.work.table().groupby("endpoint")["images"].sum()
        dataset = numbered("numbers", count)
        watched = {"driver": psutil.Process(), "ledger": _ledger()}
        memory = {name: _forget_peak(process) for name, process in watched.items()}
        used, start = processor_seconds(), time.perf_counter()
        encoded = encoder.encode_images(dataset)
        seconds, used = time.perf_counter() - start, processor_seconds() - used
        assert encoded.sent == len(encoded.positions) == count
        images = encoder.work.table().groupby("endpoint")["images"].sum().sub(before, fill_value=0)
        grown = {name: max(0, _peak(process) - memory[name]) for name, process in watched.items()}
    return {
        "images": count,
        "images_per_second": count / seconds,
        "processor_ms": 1000 * used / count,
        "busy": used / seconds / (os.cpu_count() or 1),
        "shares": [float(images.get(url, 0)) / count for url in urls],
        **grown,
    }


def measure(quick: bool = False, rounds: int | None = None) -> dict[str, Any]:
    """Return the tables of the top of this file."""
    rounds = rounds or (1 if quick else 3)
    levels, seconds, rate = ((1, 2), 2.0, 200.0) if quick else (ENDPOINTS, 45.0, RATE)
    flood, sizes = (1000, (1000, 2000)) if quick else (20_000, SIZES)
    most = levels[-1]
    rates: list[float | None] = [*[rate] * most, rate / SLOWER, *[None] * min(_FREE, most)]
    taken: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name, ray_nodes(NODES, CPUS):
        folder = Path(name)
        nodes = sum(node["Alive"] for node in ray.nodes())
        with waiting_servers(rates, folder / "servers.log") as urls:
            uneven = [*urls[: min(_FREE, most) - 1], urls[most]]

            def run(what: str, urls: Sequence[str], images: float) -> None:
                taken[what].append(encode(urls, int(images), folder / "store"))
                shutil.rmtree(folder / "store")

            for _ in range(rounds):
                for level in levels:
                    run(str(level), urls[:level], level * rate * seconds)
                run("uneven", uneven, (len(uneven) - 1 + 1 / SLOWER) * rate * seconds)
                run("limit", urls[most + 1 :], flood)
            for size in sizes:
                run("memory", urls[most + 1 :], size)
    ideal = len(uneven) - 1 + 1 / SLOWER
    small, large = taken["memory"][-2:]
    return {
        "rounds": rounds,
        "cores": os.cpu_count(),
        "nodes": nodes,
        "rate": rate,
        "latency": LATENCY,
        "endpoints": [_row(level, taken[str(level)], level * rate) for level in levels],
        "limit": _row(len(urls) - most - 1, taken["limit"], None),
        "uneven": {
            **_row(len(uneven), taken["uneven"], ideal * rate),
            # of the slow endpoint: what it got, against what it could do in the time
            "given": statistics.median(one["shares"][-1] for one in taken["uneven"]) * SLOWER * ideal,
        },
        "memory": taken["memory"],
        # what a process takes once, for its first rows, would hide what an image takes
        "bytes_per_image": None
        if quick
        else {what: (large[what] - small[what]) / (large["images"] - small["images"]) for what in ("driver", "ledger")},
    }


def _row(endpoints: int, taken: Sequence[Mapping[str, Any]], ideal: float | None) -> dict[str, Any]:
    rates = [one["images_per_second"] for one in taken]
    row: dict[str, Any] = {
        "endpoints": endpoints,
        "images_per_second": statistics.median(rates),
        **{key: statistics.median(one[key] for one in taken) for key in ("processor_ms", "busy")},
    }
    if ideal is not None:
        row |= {
            "ratio": row["images_per_second"] / ideal,
            "ratio_low": min(rates) / ideal,
            "ratio_high": max(rates) / ideal,
        }
    return row


def markdown(result: Mapping[str, Any]) -> str:
    """Return the result as tables."""
    rows = [
        *((f"{row['endpoints']}", row) for row in result["endpoints"]),
        (f"{result['uneven']['endpoints']}, one {SLOWER} times slower", result["uneven"]),
        (f"{result['limit']['endpoints']} that do not wait", result["limit"]),
    ]
    lines = [
        f"{result['rounds']} rounds, {result['cores']} cores, {result['nodes']} Ray nodes; "
        f"endpoints of {result['rate']:.0f} images/s, {1000 * result['latency']:.0f} ms",
        "",
        "| endpoints | images/s | share of what they could do | processors busy | processor ms per image |",
        "|---|---|---|---|---|",
    ]
    for title, row in rows:
        share = f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})" if "ratio" in row else ""
        lines.append(
            f"| {title} | {row['images_per_second']:.0f} | {share} | {row['busy']:.2f} | {row['processor_ms']:.2f} |"
        )
    lines += ["", f"The slow one got {result['uneven']['given']:.2f} of what it could do in the time."]
    lines += ["", "| images | driver, MB more | ledger, MB more |", "|---|---|---|"]
    lines += [
        f"| {one['images']:,} | {one['driver'] / 1e6:.0f} | {one['ledger'] / 1e6:.0f} |" for one in result["memory"]
    ]
    if each := result["bytes_per_image"]:
        lines += ["", f"Bytes per image: driver {each['driver']:.0f}, ledger {each['ledger']:.0f}."]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark, print Markdown and one line of JSON."""
    return run_alone(__doc__, "1 and 2 endpoints, some hundred images", measure, markdown, arguments)


def _ledger() -> psutil.Process:
    """Return the process of the ledger: Ray puts it into the title."""
    found = [one for one in psutil.Process().children(recursive=True) if "ray::Ledger" in " ".join(one.cmdline())]
    return found[-1]


def _forget_peak(process: psutil.Process) -> int:
    """Have Linux forget the most memory that a process has had, and return what it has now, in bytes; see proc(5)."""
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")
    return _peak(process)


def _peak(process: psutil.Process) -> int:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
