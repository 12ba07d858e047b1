"""Servers that are named by addresses, by a name that stands for many, or by a file that changes amid the work."""

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
    """A name service of our own; real ones are asked for the other names."""
    known = {name: list(hosts) for name, hosts in HOSTS.items()}
    real = socket.getaddrinfo

    def answer(host: str, port: int, *more: Any, **options: Any) -> Any:
        if host not in known:
            return real(host, port, *more, **options)
        if not known[host]:
            raise socket.gaierror(-2, "Name or service not known")
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in known[host]]
        return [*found, (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fd00::1", port, 0, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return known


def test_a_name_that_resolves_to_many_stands_for_all_of_them(names: dict[str, list[str]]) -> None:
    addresses = Addresses(["grpc://many:51000", "grpc://one:51000", "grpc://10.0.0.1:51000"])
    assert addresses.now() == ("grpc://10.0.0.1:51000", "grpc://10.0.0.2:51000", "grpc://one:51000")
    names["many"].append("10.0.0.3")
    assert "grpc://10.0.0.3:51000" in addresses.now()
    names["many"].clear()  # the name service fails: what is known still holds
    assert "grpc://10.0.0.3:51000" in addresses.now()
    assert addresses.can_change


def test_a_name_that_is_unknown_from_the_start_is_left_to_who_connects(names: dict[str, list[str]]) -> None:
    names["gone"] = []
    assert Addresses(["grpc://gone:1"]).now() == ("grpc://gone:1",)


def test_the_name_of_the_certificate_goes_along(names: dict[str, list[str]]) -> None:
    assert Addresses(["grpcs://many:51000"]).now()[0] == "grpcs://10.0.0.1:51000#many"


def test_plain_addresses_stay_as_they_are() -> None:
    plain = ["grpc://127.0.0.1:1", "grpcs://[::1]:2", "grpc://localhost:3"]
    assert Addresses(plain).now() == tuple(plain)
    assert not Addresses(plain[:2]).can_change


def test_a_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "servers.txt"
    file.write_text("# ours\ngrpc://127.0.0.1:1  # first\n\ngrpc://127.0.0.1:2\n")
    addresses = Addresses([f"file:{file}"])
    assert addresses.now() == ("grpc://127.0.0.1:1", "grpc://127.0.0.1:2")
    file.write_text("grpc://127.0.0.1:2\n")
    assert addresses.now() == ("grpc://127.0.0.1:2",)
    file.unlink()
    assert addresses.now() == ("grpc://127.0.0.1:2",)
    file.write_text("grpc://127.0.0.1:2\nhttp://elsewhere\n")
    with pytest.raises(SemscaleError, match="no address") as caught:
        addresses.now()
    assert caught.value.where == f"{file}, line 2"
    with pytest.raises(SemscaleError, match="cannot be read"):
        Addresses([f"file:{tmp_path / 'nowhere'}"]).now()


def test_the_pool_keeps_what_it_knows_of_those_that_stay() -> None:
    endpoints = EndpointPool(["a", "b", "c"])
    endpoints.report_failure("a", "away", now=0.0)
    assert endpoints.eject("b", "another model")
    assert endpoints.update(["a", "b", "d"], 0.0) == (["d"], ["c"])
    assert endpoints.urls == ("a", "d")
    assert endpoints.pick(0, now=0.1) == "d"  # a rests
    assert endpoints.update(["a", "d"], 0.0) == ([], ["b"])
    assert endpoints.update(["a", "b", "d"], 0.0) == (["b"], [])  # it was away: another server may be there now
    assert endpoints.urls == ("a", "b", "d")


def test_the_endpoint_with_the_least_load_is_picked() -> None:
    endpoints = EndpointPool(["a", "b", "c"])
    assert [endpoints.pick(index, 0.0) for index in range(4)] == ["a", "b", "c", "a"]
    assert endpoints.pick(0, 0.0, {"a": 2, "b": 1, "c": 1}) == "b"
    assert endpoints.pick(2, 0.0, {"a": 1, "b": 1, "c": 1}) == "c"


@pytest.mark.faults
def test_servers_come_and_go_amid_the_work(
    mini_server: str, ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed_encoder, "_DISCOVERY_SECONDS", 0.0)
    dataset, notes = load_dataset("shapes"), []
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
                    time.sleep(0.2)  # as if nobody were there for a while
                    stages.pop(0)()
                return addresses.now()

        identity = identify_encoder(Servers(addresses.now()), "semscale-mini", tmp_path / "store")
        servers = Watched(addresses.now(), note=notes.append)
        with DistributedEncoder(identity, servers, tmp_path / "store", actors=1, batch_size=8) as encoder:
            found = encoder.encode_images(dataset, progress)
            work = encoder.work.table()
            ours = encoder.image_embeddings(found.keys)
    assert (len(found.positions), found.sent, found.quarantine) == (1200, 1200, {})
    assert set(work["endpoint"]) == {mini_server, second.url}
    assert work["images"].sum() == 1200
    assert f"new server {second.url}" in notes
    assert f"server {mini_server} is gone" in notes
    with DistributedEncoder(
        identify_encoder(Servers([mini_server]), "semscale-mini", tmp_path / "other"),
        Servers([mini_server]),
        tmp_path / "other",
    ) as encoder:
        assert np.array_equal(encoder.image_embeddings(encoder.encode_images(dataset).keys), ours)
