"""MLflow's own pages for a run directory: which store it was tracked in, and a server for that store."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from semscale.config import load_study
from semscale.encoding.folder import Folder
from semscale.errors import SemscaleError
from semscale.redact import redact
from semscale.study.guard import Guard
from semscale.study.rundir import study_file

HOST = "127.0.0.1"
FIRST_PORT = 5000
_LAST_PORT = FIRST_PORT + 100
# MLflow imports for some seconds, on a busy machine for longer
_PATIENCE, _PAUSE, _GRACE = 120.0, 0.2, 5.0
_LAST_LINES = 12


@dataclass(frozen=True)
class Tracked:
    """Where a study was tracked.

    Attributes:
        run: the run directory.
        uri: MLflow's store; may hold a password.
        experiment: name of its experiment there.
    """

    run: Folder
    uri: str
    experiment: str

    @property
    def is_server(self) -> bool:
        """Whether there is a page already."""
        return self.uri.startswith(("http://", "https://"))


def newest_run(runs: str | None = None) -> str:
    """Return the run directory that a sweep wrote to last.

    Args:
        runs: the folder of the run directories; ``SEMSCALE_RUNS`` or ``semscale-runs`` unless given.

    Raises:
        SemscaleError: there is none.
    """
    folder = Folder.of(runs or os.environ.get("SEMSCALE_RUNS") or "semscale-runs")
    found = [] if folder.is_remote else list(folder.local.glob("*/study.yaml"))
    if not found:
        raise SemscaleError(
            "there is no run directory",
            where=str(folder),
            expected="a study that semscale sweep has begun there",
            hint="name the run directory: semscale ui RUN",
        )
    return str(max(found, key=lambda path: path.stat().st_mtime).parent)


def tracked_in(run: str, uri: str | None = None) -> Tracked:
    """Return where a study was tracked.

    Args:
        run: the run directory, also in an object store.
        uri: the store, where the study file, which holds no passwords, does not say it.

    Raises:
        SemscaleError: no run directory, a store whose password is not known, or a database that is not there.
    """
    study = load_study(study_file(run))
    folder = Folder.of(run)
    uri = uri or study.tracking.uri
    if uri is None:
        if folder.is_remote:
            raise SemscaleError("the study file names no MLflow server", where=str(folder), hint="give --tracking-uri")
        uri = f"sqlite:///{folder.local.parent / 'mlflow.db'}"
    if not uri.startswith(("http://", "https://")) and ("://***@" in uri or uri.endswith("?***")):
        raise SemscaleError(
            "the run's study file holds no passwords, and MLflow's database needs one",
            where=f"{folder}/study.yaml",
            found=uri,
            hint="give the whole address with --tracking-uri",
        )
    file = Path(uri.removeprefix("sqlite:///").partition("?")[0])
    if uri.startswith("sqlite:///") and not file.is_file():
        raise SemscaleError("MLflow's database is not there", where=str(file), hint="name it with --tracking-uri")
    return Tracked(folder, uri, study.tracking.experiment)


def free_port(port: int | None) -> int:
    """Return the port to listen on.

    Args:
        port: the one to take; the first free one from 5000 on unless given.

    Raises:
        SemscaleError: it is taken, or all are.
    """
    for number in [port] if port is not None else range(FIRST_PORT, _LAST_PORT):
        with closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, number))
            except OSError as error:
                reason = error.strerror or str(error)
                continue
            return int(probe.getsockname()[1])
    raise SemscaleError(
        "MLflow cannot listen there",
        where=f"{HOST}:{FIRST_PORT if port is None else port}",
        found=reason,
        hint="choose another --port" if port is not None else "choose one with --port",
    )


@contextmanager
def mlflow_page(tracked: Tracked, port: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Serve MLflow's pages for the time of the context; yields the address of the experiment, and the process.

    Nothing is left running afterwards, also when this process is killed.

    Raises:
        SemscaleError: MLflow does not start.
    """
    with tempfile.TemporaryFile() as log, closing(Guard()) as guard:
        with guard.marking():
            process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "ui", "--host", HOST, "--port", str(port), "--workers", "1"],
                # not on the command line, where everyone could read a password
                env=os.environ | {"MLFLOW_BACKEND_STORE_URI": tracked.uri, **_QUIET},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for this process, which ends the others
            )
        try:
            address = f"http://{HOST}:{port}"
            _wait(process, address, log.fileno())
            yield _page(address, tracked.experiment), process
        finally:
            _end(process)


_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def _wait(process: subprocess.Popen[bytes], address: str, log: int) -> None:
    give_up = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < give_up:
        with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"{address}/health", timeout=1):
            return
        time.sleep(_PAUSE)
    said = os.pread(log, 1 << 20, 0).decode(errors="replace").strip().splitlines()[-_LAST_LINES:]
    raise SemscaleError(
        "MLflow does not start" if process.poll() is not None else "MLflow does not answer",
        where=address,
        found=redact("; ".join(line.strip() for line in said)) or None,
    )


def _page(address: str, experiment: str) -> str:
    """Return the page of the experiment's runs; MLflow's first one if the experiment is not known there."""
    query = urllib.parse.urlencode({"experiment_name": experiment})
    try:
        with urllib.request.urlopen(f"{address}/api/2.0/mlflow/experiments/get-by-name?{query}", timeout=30) as answer:
            return f"{address}/#/experiments/{json.load(answer)['experiment']['experiment_id']}"
    except (OSError, ValueError, KeyError):
        return address


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let MLflow end in good order; what then is left, the guard ends."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
