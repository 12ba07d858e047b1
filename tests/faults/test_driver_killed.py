"""The driver is killed at any moment: `--resume` completes the study as if nothing had been; nothing stays behind."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
from driven import TRIALS, Driven

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

ENDS_WITHIN_S = 60
# these two wait a minute for the GCS, which died with the driver, before they end
RAY_AGENTS, AGENTS_END_WITHIN_S = ("ray::DashboardAgent", "ray::RuntimeEnvAgent"), 180


def wait_until_ended(driven: Driven, seconds: float, but: tuple[str, ...] = ()) -> None:
    deadline = time.monotonic() + seconds
    while left := [line for line in driven.living() if not line.startswith(but)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def killed(driven: Driven, ripe: object) -> tuple[int, int]:
    """Kill the driver when the time is ripe; return what is in the store when only Ray's agents of it still live."""
    status, errors = driven.end_when(ripe, signal.SIGKILL)  # type: ignore[arg-type]
    assert status in (0, -signal.SIGKILL), errors
    wait_until_ended(driven, ENDS_WITHIN_S, but=RAY_AGENTS)
    return driven.stored()


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
    wait_until_ended(driven, AGENTS_END_WITHIN_S)


# a moment is a random while after the first sign of a stage
SIGNS = (
    "",
    "run/ladders/*",
    "mlflow.db",
    "store/*/image/*.parquet",
    "store/*/text/*.parquet",
    "run/predictions/*",
    "run/.tune-*",
    "trials",
    "run/trials.parquet",
    "run/report.html",
)


@pytest.mark.parametrize("seed", range(20))
def test_a_driver_killed_at_a_random_moment(seed: int, alone: Driven, mini_server: str, tmp_path: Path) -> None:
    """Every fourth one has a server of its own, which must end too, and every fifth one is killed twice."""
    own = seed % 4 == 3
    total = alone.stored()
    driven, moments = Driven(tmp_path, None if own else mini_server), random.Random(seed)
    for sign in (SIGNS[seed % len(SIGNS)], "run/predictions/*")[: 1 + (seed % 5 == 4)]:
        wait, seen = moments.uniform(0.0, 4.0 if sign else 10.0), [float("inf")]

        def ripe(sign: str = sign, wait: float = wait, seen: list[float] = seen) -> bool:
            there = driven.recorded() > 0 if sign == "trials" else not sign or any(tmp_path.glob(sign))
            now = time.monotonic()
            seen[0] = min(seen[0], now) if there else seen[0]
            return now > seen[0] + wait

        stored = killed(driven, ripe)
        print(
            f"killed {wait:.1f} s after {sign or 'the start'!r}: stored {stored}, {driven.recorded()} trials recorded"
        )
    assert driven.finish() == (total[0] - stored[0], total[1] - stored[1])
    assert driven.stored() == total
    # with another server the runs have other keys: they name the study, and that names the server
    mine, theirs = (
        {name: value for name, value in one.outcome().items() if not (own and name.startswith("MLflow"))}
        for one in (driven, alone)
    )
    assert mine == theirs
