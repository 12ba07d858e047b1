"""Servers with faults, and the rows that an undisturbed server gives."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from driven import Driven

from semscale.common.errors import SemscaleError
from semscale.datasets.dataset import Dataset
from semscale.datasets.loader_registry import load_dataset
from semscale.encoding.distributed_encoder import DistributedEncoder
from semscale.encoding.server_discovery import Servers
from semscale.encoding.verification import check_server, identify_encoder
from semscale.store.embedding_store import EmbeddingStore


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class OddServer:
    """A server of odd_server.py."""

    def __init__(self, port: int, how: dict[str, Any], log: Path) -> None:
        self.url = f"grpc://127.0.0.1:{port}"
        self._command = [sys.executable, str(Path(__file__).parent / "odd_server.py"), str(port), json.dumps(how)]
        self._log = log
        self.start()

    def start(self) -> None:
        with self._log.open("a") as output:
            self.process = subprocess.Popen(self._command, stdout=output, stderr=output, start_new_session=True)

    def wait(self) -> None:
        """Wait until it listens and its executor answers, well or not."""
        for _ in range(100):
            try:
                check_server(self.url, timeout=30)
                return
            except SemscaleError:
                assert self.process.poll() is None
                time.sleep(0.3)

    def kill(self) -> None:
        """End gateway and model processes, all at once."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)


OddServers = Callable[..., OddServer]


@pytest.fixture
def odd_server(tmp_path: Path) -> Iterator[OddServers]:
    """Start odd servers that end with the test: ``odd_server(delay=0.01)``."""
    with ExitStack() as stack:

        @contextmanager
        def running(port: int, how: dict[str, Any]) -> Iterator[OddServer]:
            server = OddServer(port, how, tmp_path / f"server-{port}.log")
            try:
                yield server
            finally:
                server.kill()

        yield lambda port=0, **how: stack.enter_context(running(port or free_port(), how))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 600 pictures in 12 classes."""
    folder = tmp_path_factory.mktemp("pictures")
    dataset = load_dataset("shapes", limit=600)
    for i, sample in enumerate(dataset.samples):
        path = folder / sample.true_class / f"{i:04}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(dataset.reader.read(sample.file))
    return folder


@pytest.fixture(scope="session")
def dataset(pictures: Path) -> Dataset:
    return load_dataset(f"folder:{pictures}")


@pytest.fixture(scope="session")
def undisturbed(
    dataset: Dataset, mini_server: str, ray_session: None, tmp_path_factory: pytest.TempPathFactory
) -> EmbeddingStore:
    """The rows of the whole dataset without any fault."""
    store = tmp_path_factory.mktemp("undisturbed")
    identity = identify_encoder(Servers([mini_server]), "semscale-mini", store)
    with DistributedEncoder(identity, Servers([mini_server]), store, batch_size=16) as encoder:
        assert encoder.encode_images(dataset).sent == len(dataset.samples)
    return EmbeddingStore(store / identity.fingerprint / "image")


@pytest.fixture(scope="session")
def alone(mini_server: str, tmp_path_factory: pytest.TempPathFactory) -> Driven:
    """A sweep that nothing disturbed."""
    driven = Driven(tmp_path_factory.mktemp("alone"), mini_server)
    driven.finish()
    return driven
