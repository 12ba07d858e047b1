"""`semscale ui`: the store that a run was tracked in, and a real MLflow server on it that leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from semscale.cli import main
from semscale.config import study_from
from semscale.errors import SemscaleError
from semscale.study.rundir import RunDirectory
from semscale.study.ui import FIRST_PORT, HOST, free_port, newest_run, tracked_in
from semscale.tracking.store import open_store


def run_directory(place: Path, name: str, **keys: Any) -> Path:
    with RunDirectory(place / name, study_from({"name": name, **keys})) as directory:
        return directory.path


def test_newest_run_is_the_one_that_was_written_to_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMSCALE_RUNS", str(tmp_path))
    with pytest.raises(SemscaleError, match="there is no run directory"):
        newest_run()
    for age, name in ((2, "b"), (3, "a"), (1, "c")):
        os.utime(run_directory(tmp_path, name) / "study.yaml", (age, age))
    assert newest_run() == str(tmp_path / "a")


def test_store_is_the_one_of_the_study(tmp_path: Path) -> None:
    run = run_directory(tmp_path, "here")
    with pytest.raises(SemscaleError, match="database is not there"):
        tracked_in(str(run))
    (tmp_path / "mlflow.db").touch()
    found = tracked_in(str(run))
    assert (found.uri, found.experiment, found.is_server) == (f"sqlite:///{tmp_path}/mlflow.db", "semscale", False)
    secret = run_directory(tmp_path, "db", tracking={"uri": "postgresql://ann:pw@db/mlflow"})
    with pytest.raises(SemscaleError, match="holds no passwords"):
        tracked_in(str(secret))
    assert tracked_in(str(secret), "postgresql://ann:pw@db/mlflow").uri == "postgresql://ann:pw@db/mlflow"


def test_address_of_a_tracking_server_is_printed(tmp_path: Path) -> None:
    run = run_directory(tmp_path, "served", tracking={"uri": "http://ann:pw@mlflow.example:5000"})
    shown = CliRunner().invoke(main, ["ui", str(run), "--no-open"])
    assert shown.exit_code == 0
    assert shown.stdout.endswith(": http://***@mlflow.example:5000\n")


def test_a_taken_port_is_refused_if_it_is_asked_for_and_else_passed_over() -> None:
    with closing(socket.socket()) as taken:
        taken.bind((HOST, 0))
        taken.listen()
        with pytest.raises(SemscaleError, match="cannot listen there"):
            free_port(taken.getsockname()[1])
    with closing(socket.socket()) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((HOST, first := free_port(None)))
        taken.listen()
        assert FIRST_PORT <= first < free_port(None)


def mentioning(word: str) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            said = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if word.encode() in said and folder.name != str(os.getpid()):
            found.append(folder.name)
    return found


@pytest.mark.faults
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_mlflow_answers_and_is_gone_afterwards(tmp_path: Path, end: signal.Signals) -> None:
    run = run_directory(tmp_path, "shown")
    store = open_store(None, "semscale", tmp_path)
    command = [sys.executable, "-m", "semscale", "ui", str(run), "--no-open"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    try:
        match = re.fullmatch(rf"(http://127\.0\.0\.1:\d+)/#/experiments/{store.experiment_id}", address)
        assert match, process.communicate(timeout=60)
        with urllib.request.urlopen(match[1], timeout=60) as page:
            assert b"<title>MLflow</title>" in page.read()
        assert len(mentioning(str(tmp_path / "mlflow.db"))) >= 2
    finally:
        process.send_signal(end)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == (0 if end != signal.SIGKILL else -signal.SIGKILL), errors
    assert "Traceback" not in errors
    give_up = time.monotonic() + 30
    # whoever is killed leaves that to its guard, which is no child of the test's
    while end == signal.SIGKILL and mentioning(str(tmp_path / "mlflow.db")) and time.monotonic() < give_up:
        time.sleep(0.1)
    assert not mentioning(str(tmp_path / "mlflow.db"))
