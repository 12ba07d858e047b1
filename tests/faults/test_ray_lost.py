"""Ray loses a process that it cannot do without, amid encoding: it is started again, and the results are the same."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from driven import Driven

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]


def kill(sweep: subprocess.Popen[str], title: str, ripe: Callable[[], bool], spared: int = 0) -> int:
    """Kill the process of the sweep whose name begins so when the time is ripe, and return its id."""
    while sweep.poll() is None:
        with suppress(psutil.Error):
            for process in psutil.Process(sweep.pid).children(recursive=True):
                if process.name().startswith(title) and process.pid != spared and ripe():
                    process.kill()
                    return process.pid
        time.sleep(0.02)
    raise AssertionError(sweep.communicate())


@pytest.mark.parametrize("title", ["ray::CoordinatorActor", "raylet", "gcs_server"])
def test_what_is_lost_amid_encoding_is_started_again(
    title: str, alone: Driven, mini_server: str, tmp_path: Path
) -> None:
    driven = Driven(tmp_path, mini_server)
    with driven.start() as sweep:
        try:
            kill(sweep, title, lambda: 0 < driven.stored()[0] < alone.stored()[0])
            _, errors = sweep.communicate(timeout=280)
        finally:
            sweep.kill()
    assert sweep.returncode == 0, errors
    # of Ray's own part of the driver, which has lost the place that it reports to
    assert not [line for line in errors.splitlines() if "Failed to push error to driver" not in line]
    assert driven.stored() == alone.stored()
    assert driven.outcome() == alone.outcome()


@pytest.mark.parametrize("title", ["raylet", "gcs_server"])
def test_what_is_lost_again_is_one_sentence(title: str, alone: Driven, mini_server: str, tmp_path: Path) -> None:
    driven = Driven(tmp_path, mini_server)
    with driven.start() as sweep:
        try:
            first = kill(sweep, title, lambda: driven.stored()[0] > 0)
            kill(sweep, title, lambda: driven.recorded() > 1, spared=first)
            _, errors = sweep.communicate(timeout=280)
        finally:
            sweep.kill()
    assert sweep.returncode == 1, errors
    assert "Error: Ray has ended during the work\n  found:    no answer from its " in errors
    assert "Traceback" not in errors
    driven.finish()
    assert driven.outcome() == alone.outcome()
