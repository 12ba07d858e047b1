"""A small sweep in a process of its own that is ended amid its work, and what it must come to all the same."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient

from semscale.store.segment import read_keys

TRIALS = 2 * 2 * 3
RUNS = {"study": 1, "curve": 4, "trial": TRIALS}
_STUDY = """\
name: driven
datasets: [shapes, digits]
strategies: [templates, prompts]
controls: []
steps: 3
limit: 100
encoding: {batch_size: 4, actors: 1}
"""


def marked(mark: str) -> list[str]:
    """Return the command lines of all processes that have this ``NAME=value`` in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def stored_rows(store: Path, kind: str) -> tuple[int, int]:
    """Return how many rows a store has of ``image`` or ``text``, and how many of them are there already."""
    keys = [bytes(key) for path in store.glob(f"*/{kind}/*.parquet") for key in read_keys(path)]
    return len(keys), len(keys) - len(set(keys))


@dataclass
class Driven:
    """A folder with a study, its run directory and its store; every process of it is known by a mark."""

    folder: Path
    url: str | None = None
    mark: str = field(default_factory=lambda: f"DRIVEN={uuid.uuid4().hex}")

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def start(self) -> subprocess.Popen[str]:
        """Start the sweep, or go on with it as its last words say."""
        command = [sys.executable, "-m", "semscale", "sweep", "--quiet"]
        if (self.run / "study.yaml").exists():
            command += ["--resume", str(self.run)]
        else:
            study = self.folder / "study.yaml"
            study.write_text(_STUDY + (f"server: {{urls: ['{self.url}']}}\n" if self.url else ""))
            command += [str(study), "--out", str(self.run), "--store", str(self.folder / "store")]
        name, value = self.mark.split("=")
        return subprocess.Popen(
            command,
            env=os.environ | {name: value},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def end_when(self, ripe: Callable[[], bool], number: signal.Signals) -> tuple[int, str]:
        """Start or go on, send a signal when the time is ripe, and return exit status and what it says."""
        process = self.start()
        try:
            while process.poll() is None and not ripe():
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.01)
            if number == signal.SIGINT:  # as a terminal does: to every process of the foreground group
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
        return process.returncode, errors

    def finish(self) -> tuple[int, int]:
        """Complete it and return how many images and texts were sent."""
        process = self.start()
        try:
            output, errors = process.communicate(timeout=280)
        finally:
            process.kill()
        assert process.returncode == 0, errors
        sent = re.search(r"sent to the server: ([\d,]+) images?, ([\d,]+) texts?", output)
        assert sent, output
        return int(sent[1].replace(",", "")), int(sent[2].replace(",", ""))

    def living(self) -> list[str]:
        """Return the command lines of all processes that the sweep has started, however indirectly."""
        return marked(self.mark)

    def stored(self) -> tuple[int, int]:
        """Return how many images and texts are in the store; none is there twice."""
        counts = []
        for kind in ("image", "text"):
            rows, doubled = stored_rows(self.folder / "store", kind)
            assert not doubled
            counts.append(rows)
        return counts[0], counts[1]

    def recorded(self) -> int:
        """Return how many trials MLflow's database knows, finished or not."""
        path = self.folder / "mlflow.db"
        if not path.exists():
            return 0
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            try:
                question = "SELECT count(*) FROM tags WHERE key = 'kind' AND value = 'trial'"
                return int(database.execute(question).fetchone()[0])
            except sqlite3.OperationalError:
                return 0  # being made, or written to

    def outcome(self) -> dict[str, Any]:
        """Return everything that it has left behind, but for run ids and logs."""
        found: dict[str, Any] = {}
        for path in sorted(self.run.rglob("*")):
            name = str(path.relative_to(self.run))
            if path.is_file() and not name.startswith("logs"):
                found[name] = path.read_bytes() if path.parent != self.run else ""
        for path in self.run.glob("*.parquet"):
            table = pd.read_parquet(path)
            found[path.name] = table.drop(columns=[name for name in table if "run_id" in name]).to_csv()
        client = MlflowClient(f"sqlite:///{self.folder}/mlflow.db")
        runs = client.search_runs([e.experiment_id for e in client.search_experiments()], max_results=1000)
        assert Counter(run.data.tags["kind"] for run in runs) == RUNS
        for run in runs:
            assert run.info.status == "FINISHED"
            history = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
            metrics = {name: sorted((point.step, point.value) for point in points) for name, points in history.items()}
            assert all(len(points) == len({step for step, _ in points}) for points in metrics.values())
            files = sorted(file.path for file in client.list_artifacts(run.info.run_id))
            found[f"MLflow {run.data.tags['semscale_key']}"] = (run.data.params, metrics, files)
        return found
