"""Ctrl-C or SIGTERM ends a sweep soon, at any moment: it says how to go on, and leaves no process and no half file."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from driven import TRIALS, Driven

from semscale.config import load_study
from semscale.study.run_directory import RunDirectory


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_while_ray_starts_says_in_one_line_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    driven = Driven(tmp_path, "grpc://127.0.0.1:9")
    status, errors = driven.end_when((driven.run / "ladders").exists, number)
    assert status == 128 + number, errors
    assert errors.strip() == "Stopped. To continue: semscale sweep --resume run"
    assert not driven.living()


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_amid_everything_and_then_to_the_end(tmp_path: Path, number: signal.Signals) -> None:
    driven = Driven(tmp_path)
    log = driven.run / "logs" / "clip-server.log"
    moments = {
        "starting the server": log.exists,
        "encoding": lambda: any(tmp_path.glob("store/*/image/*.parquet")),
        "trials": lambda: driven.recorded() > 1,
    }
    for moment, ripe in moments.items():
        status, errors = driven.end_when(ripe, number)  # fails after a minute
        assert status == 128 + number, (moment, errors)
        assert "semscale sweep --resume run" in errors
        assert "Traceback" not in errors
        assert not driven.living(), moment
        assert not [path for path in driven.run.rglob("*") if path.suffix == ".partial" or ".tune" in path.name]
    assert 0 < driven.recorded() < TRIALS
    assert driven.finish() == (0, 0)
    assert driven.outcome()


def test_a_second_sweep_is_refused_while_the_first_writes(tmp_path: Path) -> None:
    driven = Driven(tmp_path, "grpc://127.0.0.1:9")
    file = tmp_path / "held.yaml"
    file.write_text("name: held\n")
    with RunDirectory(driven.run, load_study(file)):
        process = driven.start()
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.startswith("Error: another sweep is writing into this run directory"), output + errors
    assert "where:    run\n" in errors
    # the lock is gone with its owner, though the file is there
    assert (driven.run / ".lock").exists()
    with RunDirectory(driven.run, load_study(file)):
        pass
