"""Service discovery by address, host name or file, and the endpoint pool."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semscale.common.errors import SemscaleError
from semscale.datasets.loader_registry import load_dataset
from semscale.encoding import distributed_encoder
from semscale.encoding.distributed_encoder import DistributedEncoder
from semscale.encoding.endpoint_pool import EndpointPool
from semscale.encoding.server_discovery import Addresses, Servers
from semscale.encoding.verification import identify_encoder
from semscale.serving.launcher import launch_server

HOSTS = {"many": ["10.0.0.2", "10.0.0.1"], "one": ["10.0.0.9"]}


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Fake DNS for some host names; others are resolved."""
    hosts_of = {name: list(hosts) for name, hosts in HOSTS.items()}
    real = socket.getaddrinfo

    def answer(host: str, port: int, *more: Any, **options: Any) -> Any:
        if host not in hosts_of:
            return real(host, port, *more, **options)
        if not hosts_of[host]:
            raise socket.gaierror(-2, "Name or service not known")
        answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in hosts_of[host]]
        return [*answers, (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fd00::1", port, 0, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return hosts_of


def test_a_host_name_stands_for_all_of_its_addresses(names: dict[str, list[str]]) -> None:
    addresses = Addresses(["grpc://many:51000", "grpc://one:51000", "grpc://10.0.0.1:51000"])
    assert addresses.current() == ("grpc://10.0.0.1:51000", "grpc://10.0.0.2:51000", "grpc://one:51000")
    names["many"].append("10.0.0.3")
    assert "grpc://10.0.0.3:51000" in addresses.current()
    names["many"].clear()  # DNS fails: the last known addresses remain
    assert "grpc://10.0.0.3:51000" in addresses.current()
    assert addresses.can_change


def test_an_unknown_host_name_is_kept(names: dict[str, list[str]]) -> None:
    names["gone"] = []
    assert Addresses(["grpc://gone:1"]).current() == ("grpc://gone:1",)


def test_the_host_name_of_the_certificate_is_kept(names: dict[str, list[str]]) -> None:
    assert Addresses(["grpcs://many:51000"]).current()[0] == "grpcs://10.0.0.1:51000#many"


def test_literal_addresses_are_kept() -> None:
    plain = ["grpc://127.0.0.1:1", "grpcs://[::1]:2", "grpc://localhost:3"]
    assert Addresses(plain).current() == tuple(plain)
    assert not Addresses(plain[:2]).can_change


def test_a_file_is_reread(tmp_path: Path) -> None:
    file = tmp_path / "servers.txt"
    file.write_text("# ours\ngrpc://127.0.0.1:1  # first\n\ngrpc://127.0.0.1:2\n")
    addresses = Addresses([f"file:{file}"])
    assert addresses.current() == ("grpc://127.0.0.1:1", "grpc://127.0.0.1:2")
    file.write_text("grpc://127.0.0.1:2\n")
    assert addresses.current() == ("grpc://127.0.0.1:2",)
    file.unlink()
    assert addresses.current() == ("grpc://127.0.0.1:2",)
    file.write_text("grpc://127.0.0.1:2\nhttp://elsewhere\n")
    with pytest.raises(SemscaleError, match="no address") as caught:
        addresses.current()
    assert caught.value.where == f"{file}, line 2"
    with pytest.raises(SemscaleError, match="cannot be read"):
        Addresses([f"file:{tmp_path / 'nowhere'}"]).current()


def test_an_update_keeps_the_states_of_endpoints_that_stay() -> None:
    endpoints = EndpointPool(["a", "b", "c"])
    endpoints.report_failure("a", "away", now=0.0)
    assert endpoints.eject("b", "another model")
    assert endpoints.update(["a", "b", "d"], 0.0) == (["d"], ["c"])
    assert endpoints.urls == ("a", "d")
    assert endpoints.pick(0, now=0.1) == "d"  # a is in backoff
    assert endpoints.update(["a", "d"], 0.0) == ([], ["b"])
    assert endpoints.update(["a", "b", "d"], 0.0) == (
        ["b"],
        [],
    )  # it had disappeared: another server may have its address
    assert endpoints.urls == ("a", "b", "d")


def test_the_endpoint_with_the_least_load_is_picked() -> None:
    endpoints = EndpointPool(["a", "b", "c"])
    assert [endpoints.pick(index, 0.0) for index in range(4)] == ["a", "b", "c", "a"]
    assert endpoints.pick(0, 0.0, {"a": 2, "b": 1, "c": 1}) == "b"
    assert endpoints.pick(2, 0.0, {"a": 1, "b": 1, "c": 1}) == "c"


@pytest.mark.faults
def test_servers_may_change_during_the_work(
    mini_server: str, ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed_encoder, "_DISCOVERY_SECONDS", 0.0)
    dataset, messages = load_dataset("shapes"), []
    file = tmp_path / "servers.txt"
    file.write_text(mini_server)
    addresses = Addresses([f"file:{file}"])
    with launch_server("semscale-mini", replicas=1, log_file=tmp_path / "log") as second:
        done: list[int] = []
        stages: list[Callable[[], int]] = [
            lambda: file.write_text(f"{mini_server}\n{second.url}"),
            lambda: file.write_text(""),
            lambda: file.write_text(second.url),
        ]

        def progress(count: int, total: int) -> None:
            done.append(count)
            if stages and count >= total * (4 - len(stages)) // 5:
                stages.pop(0)()

        class Watched(Servers):
            can_change = True

            def discover(self) -> tuple[str, ...]:
                if not stages[1:] and not file.read_text():
                    time.sleep(0.2)  # no server for a while
                    stages.pop(0)()
                return addresses.current()

        identity = identify_encoder(Servers(addresses.current()), "semscale-mini", tmp_path / "store")
        servers = Watched(addresses.current(), log=messages.append)
        with DistributedEncoder(identity, servers, tmp_path / "store", actors=1, batch_size=8) as encoder:
            images = encoder.encode_images(dataset, progress)
            work = encoder.throughput.table()
            ours = encoder.image_embeddings(images.keys)
    assert (len(images.positions), images.sent, images.quarantine) == (1200, 1200, {})
    assert set(work["endpoint"]) == {mini_server, second.url}
    assert work["images"].sum() == 1200
    assert f"new server {second.url}" in messages
    assert f"server {mini_server} is gone" in messages
    with DistributedEncoder(
        identify_encoder(Servers([mini_server]), "semscale-mini", tmp_path / "other"),
        Servers([mini_server]),
        tmp_path / "other",
    ) as encoder:
        assert np.array_equal(encoder.image_embeddings(encoder.encode_images(dataset).keys), ours)
