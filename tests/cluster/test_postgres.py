"""Runs in a real PostgreSQL behind a real MLflow server, written by two sweeps with four recorders each at once."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

_PASSWORD = "kept-in-the-environment"
_RUNS = """
SELECT kind.value, count(*), count(DISTINCT key.value) FROM runs
JOIN tags AS kind ON kind.run_uuid = runs.run_uuid AND kind.key = 'kind'
JOIN tags AS key ON key.run_uuid = runs.run_uuid AND key.key = 'semscale_key'
WHERE runs.status = 'FINISHED' GROUP BY kind.value
"""
_METRICS = """
SELECT count(*) FROM metrics JOIN tags ON tags.run_uuid = metrics.run_uuid AND tags.key = 'kind'
WHERE tags.value = 'trial' AND metrics.key = 'accuracy'
"""


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs: on the path, or where Debian puts them."""
    if found := shutil.which("initdb"):
        return Path(found).parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders else None


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """The address of a PostgreSQL of our own, which does not run as root and asks for a password."""
    binaries = programs()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed (apt: postgresql)")
    user = "nobody" if os.getuid() == 0 else None
    folder, port = Path(tempfile.mkdtemp(prefix="semscale-pg-")), free_port()
    (folder / "password").write_text(_PASSWORD)
    if user:
        for path in (folder, folder / "password"):
            shutil.chown(path, user)
    create = [binaries / "initdb", "-D", folder / "data", "-U", "mlflow", "-A", "scram-sha-256", "--no-sync"]
    subprocess.run([*create, f"--pwfile={folder / 'password'}"], user=user, cwd=folder, check=True, capture_output=True)
    command = [binaries / "postgres", "-D", folder / "data", "-p", str(port), "-c", "listen_addresses=127.0.0.1"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, "-c", "unix_socket_directories="], user=user, cwd=folder, stdout=log, stderr=log
        )
    url = f"postgresql://mlflow:{_PASSWORD}@127.0.0.1:{port}/postgres"
    try:
        for _ in range(240):
            assert server.poll() is None, (folder / "log").read_text()
            try:
                psycopg2.connect(url).close()
                break
            except psycopg2.OperationalError:
                time.sleep(0.25)
        yield url
    finally:
        server.terminate()
        server.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def tracking(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server with two workers whose store is the database."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "2"]
    # the password stands in no list of processes
    environment = {**os.environ, "MLFLOW_BACKEND_STORE_URI": database.replace("://", "+psycopg2://")}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--artifacts-destination", str(folder / "artifacts")], env=environment, stdout=log, stderr=log
        )
    try:
        for _ in range(480):
            assert server.poll() is None, (folder / "log").read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.25)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(60)


@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_all_runs_of_two_sweeps_at_once_are_there_and_none_twice(
    database: str, tracking: str, mini_server: str, tmp_path: Path
) -> None:
    sweeps = {}
    for dataset in ("shapes", "digits"):
        command = [sys.executable, "-m", "semscale", "sweep", "--dataset", dataset, "--per-class", "6", "--steps", "6"]
        command += ["--server", mini_server, "--tracking-uri", tracking, "--out", str(tmp_path / dataset), "--quiet"]
        sweeps[dataset] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for process in sweeps.values():
        said, _ = process.communicate(timeout=600)
        assert process.returncode == 0, said
    with closing(psycopg2.connect(database)) as connection, connection.cursor() as cursor:
        cursor.execute(_RUNS)
        found = {kind: (runs, keys) for kind, runs, keys in cursor.fetchall()}
        # 2 datasets x 4 arms x 6 steps
        assert found == {"study": (2, 2), "curve": (8, 8), "trial": (48, 48)}
        cursor.execute(_METRICS)
        assert cursor.fetchone() == (48,)
