"""Replicas and their supervisor, with a stand-in that is ready immediately instead of a model."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from server_processes import replica_pids

from semscale.common.errors import SemscaleError
from semscale.serving import replicas
from semscale.serving.launcher import ServerHandle, launch_server

STAND_IN = """
import os, signal, sys
from semscale.serving.server_process import read_settings
settings, events = read_settings(sys.argv[1])
signal.signal(signal.SIGINT, signal.SIG_IGN)
{line}
events.send(True)
while True:
    signal.pause()
"""
# starts servers in one of two ways
PROGRAM = """
import sys, pathlib
from semscale.serving import replicas
from semscale.serving.server_config import ServeConfig
from semscale.serving.launcher import launch_server
replicas.COMMAND = [sys.executable, "-c", {stand_in!r}]
if {launch}:
    handle = launch_server("m", replicas=2, log_file=pathlib.Path({log!r}))
    print("ready at", handle.urls, flush=True)
    sys.stdin.read()
else:
    replicas.serve(ServeConfig("m", replicas=2, port=0))
"""


def stand_in(line: str = "") -> list[str]:
    return [sys.executable, "-c", STAND_IN.format(line=line)]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(replicas, "COMMAND", stand_in())
    return tmp_path / "server.log"


def kill_until_the_end(handle: ServerHandle) -> int:
    """Kill the first replica each time that it is ready; return how often."""
    dead: set[int] = set()
    deadline = time.monotonic() + 120
    while handle.is_running():
        assert time.monotonic() < deadline
        ready = [one.process.pid for one in handle.supervisor.replicas[:1] if one.ready and one.process is not None]
        for pid in set(ready) - dead:
            dead.add(pid)
            os.kill(pid, signal.SIGKILL)
    return len(dead)


def test_a_replica_that_ends_too_often_stops_the_server(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "MAX_EXITS", 3)
    with launch_server("m", replicas=2, log_file=log) as handle:
        assert kill_until_the_end(handle) == 4
        assert replica_pids(handle) == []
    assert log.read_text().count("replica 0 is back after") == 3
    assert "error: replica 0 ended 4 times within 300 seconds; the server stops" in log.read_text()


def test_a_replica_that_never_becomes_ready_again_stops_the_server(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with launch_server("m", replicas=2, log_file=log) as handle:
        monkeypatch.setattr(replicas, "COMMAND", stand_in("os._exit(66)"))
        assert kill_until_the_end(handle) == 1
        assert replica_pids(handle) == []
    assert "replica 0 ended by signal 9 (SIGKILL); starting it again" in log.read_text()
    assert log.read_text().count("replica 0 ended with exit status 66; starting it again") == 4
    assert "error: replica 0 ended 5 times before it was ready; the server stops" in log.read_text()


def test_a_replica_that_ends_while_the_server_starts_ends_the_start(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "COMMAND", stand_in("os.kill(os.getpid(), signal.SIGKILL)"))
    with pytest.raises(SemscaleError, match="a process of the server ended while it was starting") as caught:
        launch_server("m", replicas=2, log_file=log)
    assert str(log) in str(caught.value.hint)


def test_a_start_that_fails_raises_the_error_of_the_model(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = (
        "from semscale.common.errors import SemscaleError; events.send(SemscaleError('no such weights')); sys.exit(1)"
    )
    monkeypatch.setattr(replicas, "COMMAND", stand_in(line))
    with pytest.raises(SemscaleError, match="no such weights"):
        launch_server("m", replicas=2, log_file=log, metrics_port=9090)
    text = log.read_text()
    assert "loading m" in text
    assert "metrics of replica 1 at http://127.0.0.1:9091" in text
    assert "Traceback" not in text


def test_a_stop_at_any_moment_after_a_kill_leaves_no_process(log: Path) -> None:
    for round_ in range(6):
        with launch_server("m", replicas=2, log_file=log) as handle:
            os.kill(replica_pids(handle)[0], signal.SIGKILL)
            select.select([], [], [], 0.06 * round_)  # at different moments
        assert replica_pids(handle) == []
    assert "Traceback" not in log.read_text()


def test_a_taken_port_is_named(log: Path) -> None:
    with launch_server("m", log_file=log) as handle:
        port = int(handle.url.rpartition(":")[2])
        with pytest.raises(SemscaleError, match="cannot listen") as caught:
            launch_server("m", port=port, log_file=log)
    assert caught.value.where == f"127.0.0.1:{port}"


def test_replicas_that_do_not_end_by_themselves_are_killed(tmp_path: Path) -> None:
    deaf = STAND_IN.format(line="signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    program = "from semscale.serving import replicas; replicas._STOP_SECONDS = 1.0\n"
    program += PROGRAM.format(stand_in=deaf, launch=False, log="")
    with subprocess.Popen([sys.executable, "-c", program], text=True, stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        assert any("ready at" in line for line in starter.stdout)
        children = psutil.Process(starter.pid).children()
        starter.terminate()
        starter.communicate(timeout=20)
    assert starter.returncode == 0
    assert len(children) == 2
    assert psutil.wait_procs(children, timeout=5)[1] == []


@pytest.mark.parametrize("launch", [False, True], ids=["serve", "launch_server"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_remains_however_the_parent_ends(launch: bool, number: signal.Signals, tmp_path: Path) -> None:
    program = PROGRAM.format(stand_in=STAND_IN.format(line=""), launch=launch, log=str(tmp_path / "log"))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen([sys.executable, "-c", program], text=True, start_new_session=True, **pipes) as starter:
        assert starter.stdout is not None
        assert any("ready at" in line for line in starter.stdout)
        children = psutil.Process(starter.pid).children()
        assert len(children) == 2
        os.killpg(starter.pid, number)
        output, _ = starter.communicate(timeout=20)
    _, living = psutil.wait_procs(children, timeout=20)
    assert living == []
    if not launch and number is not signal.SIGKILL:
        assert starter.returncode == 0
        assert output.splitlines()[-1] == "semscale serve: stopping"


def test_a_log_that_cannot_be_written_is_an_error_before_the_start(log: Path) -> None:
    log.mkdir()
    with pytest.raises(SemscaleError, match="log of the server"):
        launch_server("m", log_file=log)
