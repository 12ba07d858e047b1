"""`semscale ui`: the store that a run was tracked in, and a real MLflow server on it that ends with the command."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from semscale.cli import main
from semscale.common.files import database_file
from semscale.config import study_from
from semscale.study.run_directory import RunDirectory
from semscale.tracking.tracking_store import open_store


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], str]]:
    """The command lines that would be executed, each with the address of its store."""
    calls: list[tuple[list[str], str]] = []

    def execve(path: str, command: list[str], environment: dict[str, str]) -> None:
        calls.append((command, environment["MLFLOW_BACKEND_STORE_URI"]))

    monkeypatch.setattr(os, "execve", execve)
    return calls


def run_directory(folder: Path, name: str, **keys: Any) -> Path:
    with RunDirectory(folder / name, study_from({"name": name, **keys})) as directory:
        return directory.path


def ui(*words: str) -> str:
    result = CliRunner().invoke(main, ["ui", *words])
    return result.stdout if result.exit_code == 0 else result.stderr


def test_newest_run_is_the_one_that_was_written_to_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[tuple[list[str], str]]
) -> None:
    monkeypatch.setenv("SEMSCALE_RUNS", str(tmp_path))
    assert "no run directory found" in ui()
    for age, name in ((2, "b"), (3, "a"), (1, "c")):
        os.utime(run_directory(tmp_path, name) / "study.yaml", (age, age))
    (tmp_path / "mlflow.db").touch()
    assert ui().startswith(str(tmp_path / "a"))


def test_store_is_the_one_of_the_study(tmp_path: Path, started: list[tuple[list[str], str]]) -> None:
    run = run_directory(tmp_path, "here")
    assert "database does not exist" in ui(str(run))
    (tmp_path / "mlflow.db").touch()
    ui(str(run), "--port", "5001")
    secret = run_directory(tmp_path, "db", tracking={"uri": "postgresql://ann:pw@db/mlflow"})
    assert "contains no passwords" in ui(str(secret))
    ui(str(secret), "--tracking-uri", "postgresql://ann:pw@db/mlflow")
    assert [uri for _, uri in started] == [f"sqlite:///{tmp_path}/mlflow.db", "postgresql://ann:pw@db/mlflow"]
    assert started[0][0][1:8] == ["-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", "5001"]
    assert "pw" not in " ".join(started[1][0])


def test_a_database_is_found_in_a_folder_with_special_characters(
    tmp_path: Path, started: list[tuple[list[str], str]]
) -> None:
    folder = tmp_path / "what? 100%41"
    run = run_directory(folder, "here")
    (folder / "mlflow.db").touch()
    named = run_directory(folder, "named", tracking={"uri": f"sqlite:///{tmp_path}/x.db"})
    (tmp_path / "x.db").touch()
    assert ui(str(run)).endswith(":5000\n")
    assert ui(str(named), "--tracking-uri", f"sqlite:///{tmp_path}/x.db?timeout=60").endswith(":5000\n")
    assert [database_file(uri) for _, uri in started] == [folder / "mlflow.db", tmp_path / "x.db"]


def test_address_of_a_tracking_server_is_printed(tmp_path: Path) -> None:
    run = run_directory(tmp_path, "served", tracking={"uri": "http://ann:pw@mlflow.example:5000"})
    assert ui(str(run)).endswith(": http://***@mlflow.example:5000\n")


@pytest.mark.faults
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_mlflow_answers_and_ends_with_the_command(tmp_path: Path, end: signal.Signals) -> None:
    run = run_directory(tmp_path, "shown")
    open_store(None, "semscale", tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "semscale", "ui", str(run), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        give_up = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < give_up:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=10) as page:
                    assert b"<title>MLflow</title>" in page.read()
                break
            except OSError:
                time.sleep(0.2)
    finally:
        process.send_signal(end)
        output, errors = process.communicate(timeout=60)  # returns when no process holds the pipes any more
    assert f"http://127.0.0.1:{port}" in output
    assert "Traceback" not in errors
