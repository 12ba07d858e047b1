"""Shared by all tests: a real clip-server with the bundled model and a real Ray, each started once per session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("NO_VERSION_CHECK", "1")
os.environ.setdefault("JINA_OPTOUT_TELEMETRY", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pictures", metavar="DIR", help="write the README's pictures there (with -m browser)")


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # no test may be made easy, or wrong, by what an earlier one left in the user's store
    monkeypatch.setenv("SEMSCALE_STORE", str(tmp_path / "store"))


@pytest.fixture(scope="session")
def mini_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a clip-server with two replicas of semscale-mini."""
    from semscale.serving.launcher import launch_server

    log = tmp_path_factory.mktemp("server") / "clip-server.log"
    with launch_server("semscale-mini", replicas=2, log_file=log) as server:
        yield server.url


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A local Ray that sweeps of this session share."""
    import ray

    from semscale.sweep.cluster import ray_cluster

    with ray_cluster(None):
        yield
    assert not ray.is_initialized()
