"""A soak: a sweep over and over, with a random fault every 20 to 40 s; what comes out must be what came out without.

    python -m tests.faults.soak --minutes 30
    python -m tests.faults.soak --smoke

Two servers of semscale, an MLflow server and a local Ray stay for the whole time; each loop has a fresh store, run
directory and experiment. After a bit of the store was flipped the same sweep follows once more, which must restore the
row. The last lines say how many loops and faults of each kind there were, what was lost or doubled, and the memory of
the servers and of this process. Status 1 if anything was lost, doubled or different, or if memory grew.
With --smoke it is one server and one sweep of fewer images, and each fault that is over at once comes one time.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.update(NO_VERSION_CHECK="1", JINA_OPTOUT_TELEMETRY="1", RAY_USAGE_STATS_ENABLED="0")

import pandas as pd
import psutil
import yaml
from mlflow import MlflowClient

from semscale.cluster.connection import ray_cluster
from semscale.common.errors import SemscaleError
from semscale.common.progress import ProgressReporter
from semscale.config import study_from
from semscale.study.pipeline import SweepResult, sweep

sys.path.insert(0, str(Path(__file__).parent))
from driven import marked, stored_rows
from mlflow_server import MlflowServer
from saboteur import Saboteur, Server, Stages, free_port

STUDY: dict[str, Any] = {
    "name": "soak",
    "datasets": ["digits", "shapes"],
    "strategies": ["templates"],
    "controls": ["duplicates"],
    "steps": 4,
    "encoding": {"batch_size": 16, "deadline": 15.0},
}
SMOKE = {"limit": 600, "steps": 2, "controls": []}
"""Of the study of a smoke."""

_LEAST_LOOPS = 2
_SHORT_FAULTS = ("replica killed", "replica stopped", "actor killed")
_MOST_LOOPS_WITHOUT_FAULT = 8
# of fewer loops the thirds say nothing
_LOOPS_TO_JUDGE_MEMORY = 12
_GROWTH, _GROWTH_MIB = 1.10, 30.0


@dataclass
class Totals:
    """What the soak has come to."""

    loops: int = 0
    sweeps: int = 0
    trials: int = 0
    images_sent: int = 0
    texts_sent: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: list[str] = field(default_factory=list)
    memory: dict[str, list[float]] = field(default_factory=lambda: {"servers": [], "driver": []})

    def remember_memory(self, servers: list[Server]) -> str:
        sizes = [server.memory() for server in servers]
        if all(size is not None for size in sizes):
            self.memory["servers"].append(sum(size for size in sizes if size is not None))
        self.memory["driver"].append(psutil.Process().memory_info().rss / 2**20)
        return ", ".join(f"{who} {found[-1]:.0f}" for who, found in self.memory.items() if found)

    def judge_memory(self) -> list[str]:
        """Say how it was at the start, in the middle and at the end, and note where it grew."""
        lines = []
        for who, found in self.memory.items():
            if len(found) < 3:
                continue
            third = len(found) // 3
            parts = [statistics.median(part) for part in (found[:third], found[third : 2 * third], found[-third:])]
            told = f"{who}: {found[0]:.0f} MiB first; " + ", ".join(f"{part:.0f}" for part in parts)
            lines.append(f"memory of the {told} in the three thirds; {found[-1]:.0f} last; {max(found):.0f} at most")
            if len(found) >= _LOOPS_TO_JUDGE_MEMORY and parts[2] > _GROWTH * parts[1] + _GROWTH_MIB:
                self.wrong.append(f"the memory of the {who} grows")
        return lines


@dataclass
class Bench:
    """The servers and the places of the soak."""

    place: Path
    servers: list[Server]
    mlflow: MlflowServer
    changes: dict[str, Any]

    def study(self, name: str) -> dict[str, Any]:
        return {
            **(STUDY | self.changes),
            "server": {"urls": [url for server in self.servers for url in server.urls]},
            "store": str(self.place / name / "store"),
            "tracking": {"uri": self.mlflow.url, "experiment": name},
        }

    def sweep(self, name: str, report: ProgressReporter) -> SweepResult:
        while True:  # a sweep does not begin without MLflow; it only goes on without
            self.mlflow.wait()
            try:
                return sweep(study_from(self.study(name)), self.place / name / "run", report)
            except SemscaleError as error:
                if "MLflow's store cannot be opened" not in str(error):
                    raise

    def kill_a_driver(self, name: str, saboteur: Saboteur) -> None:
        """Begin the sweep in a process of its own with a Ray of its own, and kill it amid something."""
        folder = self.place / name
        folder.mkdir()
        (folder / "study.yaml").write_text(yaml.safe_dump(self.study(name)))
        command = [sys.executable, "-m", "semscale", "sweep", "--quiet", str(folder / "study.yaml")]
        mark = uuid.uuid4().hex
        with (self.place / "drivers.log").open("a") as log:
            process = subprocess.Popen(
                [*command, "--out", str(folder / "run")],
                stdout=log,
                stderr=log,
                env=os.environ | {"SOAK_DRIVER": mark},
                start_new_session=True,
            )
        pattern = saboteur.random.choice(["run", "store/*/image/*.parquet", "run/predictions/*", "run/trials.parquet"])
        give_up = time.monotonic() + 60
        while process.poll() is None and not any(folder.glob(pattern)) and time.monotonic() < give_up:
            time.sleep(0.02)
        time.sleep(saboteur.random.uniform(0.0, 2.0))
        process.send_signal(signal.SIGKILL)
        status = process.wait(20)
        while left := marked(f"SOAK_DRIVER={mark}"):
            assert time.monotonic() < give_up + 120, left  # Ray's agents wait a minute for a GCS that is gone
            time.sleep(0.1)
        print(f"  driver killed once there was {pattern}, status {status}", flush=True)
        saboteur.wants_driver.clear()

    def remains(self, name: str) -> dict[str, Any]:
        """What a sweep leaves behind, and every sweep must leave alike."""
        self.mlflow.wait()
        folder, client = self.place / name, MlflowClient(self.mlflow.url)
        tables = {}
        for table in ("trials", "curves", "steps"):
            found = pd.read_parquet(folder / "run" / f"{table}.parquet")
            tables[table] = found.drop(columns=[column for column in found.columns if "run_id" in column])
        experiment = client.get_experiment_by_name(name)
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id], max_results=1000)
        points: Counter[str] = Counter()
        for run in runs:
            history = client.get_metric_history(run.info.run_id, "accuracy")
            points[run.data.tags["semscale_key"].partition("/")[2]] += len(history)
        return {
            "tables": tables,
            "predictions": {path.name: path.read_bytes() for path in sorted((folder / "run/predictions").iterdir())},
            "runs": Counter(run.data.tags["kind"] for run in runs),
            "unfinished": sum(run.info.status != "FINISHED" for run in runs),
            "points": points,
            "stored": {kind: stored_rows(folder / "store", kind) for kind in ("image", "text")},
        }


def compare(ours: dict[str, Any], theirs: dict[str, Any], totals: Totals) -> list[str]:
    """Name what is not as it was without faults; what is too little or too much goes into the totals."""
    wrong = [
        f"the table {name}" for name in theirs["tables"] if not ours["tables"][name].equals(theirs["tables"][name])
    ]
    if ours["predictions"] != theirs["predictions"]:
        wrong.append("the predictions")
    counted = {
        **{f"runs of kind {kind}": (ours["runs"][kind], n) for kind, n in theirs["runs"].items()},
        "unfinished runs": (ours["unfinished"], 0),
        "trials in the table": (len(ours["tables"]["trials"]), theirs["runs"]["trial"]),
        "points": (ours["points"].total(), theirs["points"].total()),
        **{f"stored rows, {kind}": (ours["stored"][kind][0], n) for kind, (n, _) in theirs["stored"].items()},
    }
    for what, (found, expected) in counted.items():
        totals.lost += max(0, expected - found)
        totals.doubled += max(0, found - expected)
        if found != expected:
            wrong.append(f"{what}: {found} instead of {expected}")
    doubled = sum(twice for _, twice in ours["stored"].values())
    totals.doubled += doubled
    if doubled:
        wrong.append(f"{doubled} rows are stored twice")
    return wrong


def one_loop(bench: Bench, name: str, saboteur: Saboteur, undisturbed: dict[str, Any], totals: Totals) -> str:
    """Run the sweep until no bit has flipped since it began; return what it sent, in words."""
    folder = bench.place / name
    before = saboteur.struck.total()
    if saboteur.wants_driver.is_set():
        bench.kill_a_driver(name, saboteur)
    saboteur.store = folder / "store"
    images = texts = again = 0
    try:
        while True:
            bits = saboteur.struck["bit flipped"]
            result = bench.sweep(name, saboteur.stages)
            totals.sweeps += 1
            images, texts = images + result.images_sent, texts + result.texts_sent
            saboteur.stages.now = ""
            if saboteur.struck["bit flipped"] == bits:
                break
            again += 1
    finally:
        saboteur.store = None
    found = bench.remains(name)
    wrong = compare(found, undisturbed, totals)
    disturbed = saboteur.struck.total() > before or folder.joinpath("study.yaml").exists()
    if not disturbed and images != undisturbed["stored"]["image"][0]:
        wrong.append(f"{images} images sent without any fault")
    totals.wrong += [f"{name}: {line}" for line in wrong]
    totals.images_sent, totals.texts_sent = totals.images_sent + images, totals.texts_sent + texts
    totals.trials += len(found["tables"]["trials"])
    shutil.rmtree(folder, ignore_errors=True)
    return f"{images} images and {texts} texts sent" + (f", {again} times more for a bit" if again else "")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="no loop begins later, the start included")
    parser.add_argument("--every", type=float, nargs=2, default=(20.0, 40.0), metavar=("LEAST", "MOST"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="one server, one loop, each of the short faults once")
    options = parser.parse_args(arguments)
    if options.smoke:
        options.minutes, options.every = 0.0, (0.5, 1.0)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as place:
        return _soak(Path(place), options, start)


def _soak(place: Path, options: argparse.Namespace, start: float) -> int:
    mlflow = MlflowServer(free_port(), place / "mlflow")
    mlflow.start()
    servers = [Server(place) for _ in range(1 if options.smoke else 2)]
    bench = Bench(place, servers, mlflow, SMOKE if options.smoke else {})
    saboteur = Saboteur(servers, mlflow, tuple(options.every), options.seed)
    if options.smoke:
        saboteur.keep(_SHORT_FAULTS, seconds=1.0)
    totals = Totals()
    with ExitStack() as stack:
        for server in servers:
            stack.callback(server.kill)
        stack.callback(mlflow.close)
        stack.enter_context(ray_cluster(None))  # while MLflow and the servers start
        first = bench.sweep("undisturbed", Stages())
        undisturbed = bench.remains("undisturbed")
        assert first.images_sent == undisturbed["stored"]["image"][0] > 0
        assert undisturbed["runs"]["trial"] == len(undisturbed["tables"]["trials"]) > 0
        print(f"undisturbed after {time.monotonic() - start:.0f} s", flush=True)
        saboteur.start()
        stack.callback(saboteur.stop)
        while (
            totals.loops < (1 if options.smoke else _LEAST_LOOPS)
            or time.monotonic() < start + 60 * options.minutes
            or (not saboteur.struck and totals.loops < _MOST_LOOPS_WITHOUT_FAULT)
        ):
            name, begun = f"loop-{totals.loops:03}", time.monotonic()
            try:
                told = one_loop(bench, name, saboteur, undisturbed, totals)
            except Exception as error:
                totals.wrong.append(f"{name}: {type(error).__name__}: {error}")
                told = f"ended with {error}"
            totals.loops += 1
            memory = totals.remember_memory(bench.servers)
            print(f"{name}: {time.monotonic() - begun:.0f} s, {told}; MiB: {memory}", flush=True)
    return _conclude(saboteur, totals, time.monotonic() - start)


def _conclude(saboteur: Saboteur, totals: Totals, seconds: float) -> int:
    struck = saboteur.struck
    print(f"{totals.loops} loops, {totals.sweeps} sweeps in {seconds / 60:.1f} minutes; {struck.total()} faults:")
    for name in saboteur.faults:
        print(f"  {name}: {struck[name]}" + (f" (missed {saboteur.missed[name]})" if saboteur.missed[name] else ""))
    print(f"{totals.trials} trials, {totals.images_sent} images and {totals.texts_sent} texts sent")
    print("\n".join(totals.judge_memory()))
    untried = [name for name in saboteur.faults if not struck[name]]
    if untried and struck.total() >= 2 * len(saboteur.faults):
        totals.wrong.append(f"never tried: {', '.join(untried)}")
    print("\n".join(totals.wrong))
    print(f"{totals.lost} lost, {totals.doubled} doubled, {len(totals.wrong)} wrong")
    return 1 if totals.wrong or totals.lost or totals.doubled or not totals.loops else 0


if __name__ == "__main__":
    sys.exit(main())
