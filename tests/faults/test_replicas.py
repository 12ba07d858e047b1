"""Processes of a server that are killed: they come back, nobody waits for them, and no result changes."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from server_processes import replica_pids

from semscale.common.progress import ProgressCallback, SilentReporter
from semscale.config import StudyConfig, study_from
from semscale.encoding.client import EncodeClient, ServerUnavailableError
from semscale.serving.launcher import ServerHandle, launch_server
from semscale.study.pipeline import SweepResult, sweep

LONG = 60.0
pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHandle]:
    log = tmp_path_factory.mktemp("server") / "server.log"
    with launch_server("semscale-mini", replicas=2, num_threads=1, log_file=log) as handle:
        yield handle
    assert replica_pids(handle) == []


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline, f"not within {LONG:g} s: {what}"


def said(server: ServerHandle, text: str) -> int:
    return server.log_file.read_text().count(text)


def kill_replica(server: ServerHandle, replica: int) -> None:
    os.kill(replica_pids(server)[replica], signal.SIGKILL)


def encode(client: EncodeClient, texts: list[str]) -> np.ndarray | None:
    """Encode texts once; None if the server lost them."""
    try:
        found = asyncio.run(client.encode(texts))
    except ServerUnavailableError:
        return None
    assert found.reasons == [None] * len(texts)
    return found.embeddings


def test_a_killed_replica_comes_back_where_it_was_and_the_other_answers_meanwhile(server: ServerHandle) -> None:
    client, other = (EncodeClient(url) for url in server.urls)
    texts = [f"picture number {number}" for number in range(20)]
    reference = encode(client, texts)
    before, gone, back = (
        replica_pids(server),
        said(server, "replica 1 ended by signal 9"),
        said(server, "replica 1 is back"),
    )
    kill_replica(server, 1)
    answers = []
    while said(server, "replica 1 is back") == back:
        answers.append(encode(client, texts))
        assert len(answers) < 10_000
    assert answers
    assert all(answer is not None and np.array_equal(answer, reference) for answer in answers)
    assert said(server, "replica 1 ended by signal 9 (SIGKILL); starting it again") == gone + 1
    after = replica_pids(server)
    assert after[0] == before[0]
    assert after[1] != before[1]
    assert np.array_equal(encode(other, texts), reference)


def make_study(urls: list[str], place: Path) -> StudyConfig:
    tree = {
        "datasets": ["shapes"],
        "strategies": ["templates"],
        "controls": [],
        "steps": 3,
        "store": str(place / "store"),
        "server": {"urls": urls},
    }
    return study_from(tree)


@pytest.fixture(scope="module")
def undisturbed(
    server: ServerHandle, ray_session: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, SweepResult]:
    place = tmp_path_factory.mktemp("undisturbed")
    return place, sweep(make_study(server.urls, place), place / "runs" / "one", SilentReporter())


def check_same(place: Path, result: SweepResult, undisturbed: tuple[Path, SweepResult]) -> None:
    """The same files, the same rows in the store, each once."""
    place_before, before = undisturbed
    for name in ("ladders/*.json", "predictions/*.parquet", "steps.parquet", "quarantine.csv"):
        files = sorted((place_before / "runs" / "one").glob(name))
        assert files, name
        for file in files:
            assert (place / "runs" / "one" / file.relative_to(place_before / "runs" / "one")).read_bytes() == (
                file.read_bytes()
            ), file.name
    own = ["mlflow_run_id"]
    for mine, theirs in ((result.trials, before.trials), (result.curves, before.curves)):
        pd.testing.assert_frame_equal(mine.drop(columns=own), theirs.drop(columns=own), check_exact=True)
    rows = [stored(folder / "store") for folder in (place, place_before)]
    pd.testing.assert_frame_equal(*rows, check_exact=True)
    assert not rows[0].duplicated("sha256").any()


def stored(store: Path) -> pd.DataFrame:
    """Every row of every segment, in the order of the keys."""
    tables = [pq.read_table(path).to_pandas() for path in store.rglob("*.parquet")]
    rows = pd.concat(tables).sort_values("sha256", ignore_index=True)
    rows["embedding"] = [np.asarray(row).tobytes() for row in rows["embedding"]]
    return rows


@pytest.mark.parametrize("round_", range(10))
def test_a_sweep_survives_kills_at_many_moments(
    round_: int, server: ServerHandle, undisturbed: tuple[Path, SweepResult], tmp_path: Path
) -> None:
    moments = iter(np.random.default_rng(round_).permutation([0, 1, 0, 1]))

    class KillOften(SilentReporter):
        @contextmanager
        def stage(self, title: str, total: int | None = None, unit: str = "") -> Iterator[ProgressCallback]:
            def advance(done: int, total: int | None) -> None:
                replica = next(moments, None) if title.startswith("encoding") else None
                pids = replica_pids(server) if replica is not None else []
                if pids:
                    os.kill(pids[replica % len(pids)], signal.SIGKILL)

            yield advance

    result = sweep(make_study(server.urls, tmp_path), tmp_path / "runs" / "one", KillOften())
    check_same(tmp_path, result, undisturbed)
