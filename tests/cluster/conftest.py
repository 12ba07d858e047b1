"""A Ray head with dashboard and token authentication, and jobs on it."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_nodes import ROOT, Nodes, Place


class Jobs:
    """Submits jobs to a cluster from a clone of the project, as a user would."""

    def __init__(self, nodes: Nodes, clone: Path) -> None:
        self.nodes = nodes
        self.clone = clone

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command of a client: in the clone, with the cluster's token unless the environment says otherwise."""
        env = self.nodes.environment(PYTHONPATH=str(ROOT), **environment)
        return subprocess.run(words, cwd=self.clone, env=env, capture_output=True, text=True, timeout=240, check=False)

    def ray_submit(self, *words: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Submit as ray_jobs/README.md says."""
        head = ("ray", "job", "submit", "--address", self.nodes.address, "--working-dir", ".")
        return self.run(*head, "--runtime-env", "ray_jobs/runtime_env.yaml", *options, "--", "python", *words)

    def submit(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        address = ("--address", self.nodes.address)
        return self.run(sys.executable, "-m", "semscale", "submit", *address, *words, **environment)

    def log(self, job: str) -> str:
        return str(self.nodes.get(f"/api/jobs/{job}/logs")["logs"])

    def status(self, job: str) -> str:
        return str(self.nodes.get(f"/api/jobs/{job}")["status"])

    def working(self) -> list[str]:
        """Return the command lines of what jobs have running: drivers, servers, and workers that do something."""
        pattern = re.compile(r"-m semscale|semscale\.serving|ray_jobs/|ray::(?!IDLE|\w+Agent\b)")
        return [line for line in self.nodes.living().values() if pattern.search(line)]

    def wait_for(self, job: str, words: str) -> None:
        """Wait until the job's log has these words."""
        for _ in range(600):
            if words in self.log(job):
                return
            assert self.status(job) in ("PENDING", "RUNNING"), self.log(job)
            time.sleep(0.1)
        raise AssertionError(self.log(job))


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone of the project has, for jobs; links, which Ray follows."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("semscale", "ray_jobs"):
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.fixture(scope="module")
def jobs(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    """A head on this machine, its dashboard on the loopback interface."""
    nodes = Nodes(tmp_path_factory.mktemp("head"))
    try:
        home = tmp_path_factory.mktemp("home")
        nodes.start_head(Place("127.0.0.1"), HOME=str(home), SEMSCALE_STORE=str(home / "store"))
        yield Jobs(nodes, clone)
    finally:
        nodes.close()
    assert not nodes.living()
