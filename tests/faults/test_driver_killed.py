"""The driver is killed at any moment: `--resume` completes the study as if nothing had been; nothing stays behind."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
from driven import TRIALS, Driven

ENDS_WITHIN_S = 15


def killed(driven: Driven, ripe: object) -> tuple[int, int]:
    """Kill the driver when the time is ripe; return what is in the store when nothing of it lives any more."""
    status, errors = driven.end_when(ripe, signal.SIGKILL)  # type: ignore[arg-type]
    assert status in (0, -signal.SIGKILL), errors
    deadline = time.monotonic() + ENDS_WITHIN_S
    while left := driven.living():
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    return driven.stored()


@pytest.fixture(scope="module")
def alone(mini_server: str, tmp_path_factory: pytest.TempPathFactory) -> Driven:
    driven = Driven(tmp_path_factory.mktemp("alone"), mini_server)
    driven.sent = driven.finish()  # type: ignore[attr-defined]
    return driven


@pytest.mark.faults
def test_a_driver_killed_amid_encoding_and_again_amid_trials(alone: Driven, mini_server: str, tmp_path: Path) -> None:
    images, texts = alone.stored()
    driven = Driven(tmp_path, mini_server)
    stored = killed(driven, lambda: any(tmp_path.glob("store/*/image/*.parquet")))
    assert 0 < stored[0] < images
    stored = killed(driven, lambda: driven.recorded() > 1)
    assert stored == (images, texts)
    assert 1 < driven.recorded() < TRIALS
    assert not (driven.run / "trials.parquet").exists()
    assert driven.finish() == (0, 0)
    assert driven.outcome() == alone.outcome()


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(20))
def test_a_driver_killed_at_a_random_moment(seed: int, alone: Driven, tmp_path: Path) -> None:
    """With a server of its own, which must end too; every other one is killed twice."""
    total = alone.stored()
    driven, moments = Driven(tmp_path), random.Random(seed)
    for _ in range(1 + seed % 2):
        end = time.monotonic() + moments.uniform(0.5, 24)
        stored = killed(driven, lambda end=end: time.monotonic() > end)
    assert driven.finish() == (total[0] - stored[0], total[1] - stored[1])
    assert driven.stored() == total
    # runs have other keys: they name the study, and that has other servers
    mine, theirs = (
        {name: value for name, value in one.outcome().items() if not name.startswith("MLflow")}
        for one in (driven, alone)
    )
    assert mine == theirs
