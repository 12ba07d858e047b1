"""Shared by all tests: a real clip-server with the bundled model and a real Ray, each started once per session."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# a busy machine is no failure
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

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
def mini_handle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A clip-server with semscale-mini and a metrics page."""
    from semscale.serving.launcher import launch_server

    log = tmp_path_factory.mktemp("server") / "clip-server.log"
    with closing(socket.socket()) as probe, pytest.MonkeyPatch.context() as patch:
        probe.bind(("127.0.0.1", 0))
        # a server of one's own stays plain, whatever the environment says
        patch.setenv("SEMSCALE_SERVER_TOKEN", "tok-5f1d0c7e9a")
        port = probe.getsockname()[1]
        probe.close()
        handle = launch_server("semscale-mini", log_file=log, metrics_port=port)
    with handle:
        yield handle


@pytest.fixture(scope="session")
def mini_server(mini_handle: Any) -> str:
    """The address of a clip-server with semscale-mini."""
    return str(mini_handle.url)


@contextmanager
def _mlflow(kind: str, store: str, folder: Path) -> Iterator[str]:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", kind, "--backend-store-uri", store, "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--default-artifact-root", "mlflow-artifacts:/"]
    command += ["--artifacts-destination", str(folder / "artifacts-of-server")]
    address = f"http://127.0.0.1:{port}"
    with (folder / f"mlflow-{kind}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            for _ in range(240):
                assert process.poll() is None, Path(log.name).read_text()
                try:
                    urllib.request.urlopen(f"{address}/health", timeout=1)
                    break
                except (urllib.error.URLError, OSError):
                    time.sleep(0.5)
            yield address
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="session")
def mlflow_process() -> Callable[[str, str, Path], AbstractContextManager[str]]:
    """Start `mlflow ui` or `mlflow server` on a store; gives its address and ends it with the context."""
    return _mlflow


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    """The address of a real S3 server on this machine."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(240):
            with closing(socket.socket()) as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.25)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def s3(s3_address: str) -> Iterator[Any]:
    """fsspec's file system on that server, which is reached through the environment as any other."""
    import fsspec

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", s3_address)
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTKEY")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-key")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield fsspec.filesystem("s3", skip_instance_cache=True)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A local Ray that sweeps of this session share."""
    import ray

    from semscale.cluster.connection import ray_cluster

    with ray_cluster(None):
        yield
    assert not ray.is_initialized()
