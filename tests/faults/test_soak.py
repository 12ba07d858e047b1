"""A short soak: sweeps in a row with a random fault every few seconds, nothing lost and nothing doubled."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("options", [pytest.param("--smoke", marks=pytest.mark.smoke), "--minutes 1 --every 4 8"])
def test_a_soak_loses_and_doubles_nothing(options: str) -> None:
    command = [sys.executable, "-m", "tests.faults.soak", *options.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580, cwd=Path(__file__).parents[2])
    print(done.stdout)  # pytest -s -m soak shows the figures
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    assert "0 lost, 0 doubled, 0 wrong" in done.stdout.splitlines()  # Ray may have a line after it
    faults = re.search(r"(\d+) faults:", done.stdout)
    assert faults is not None
    assert int(faults[1]) > 0
