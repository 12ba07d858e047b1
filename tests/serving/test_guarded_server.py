"""Real server with TLS and a token: authentication, and no trace of the token."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import ray
from certificates import Certificates, make_certificates
from click.testing import CliRunner
from prometheus_client import CollectorRegistry
from server_processes import replica_pids

from semscale.cli import main
from semscale.common.access import Access
from semscale.common.errors import SemscaleError
from semscale.common.progress import SilentReporter
from semscale.config import StudyConfig, study_from
from semscale.encoding.client import EncodeClient, ServerUnavailableError, _connect
from semscale.encoding.server_discovery import Servers
from semscale.encoding.verification import check_server, identify_encoder
from semscale.serving.grpc_server import serve_metrics
from semscale.serving.launcher import ServerHandle, launch_server
from semscale.serving.server_config import ServeConfig, check_certificate
from semscale.study.pipeline import sweep

TOKEN = "tok-5f1d0c7e9a"
METHODS = [
    "/jina.JinaRPC/Call",
    "/jina.JinaSingleDataRequestRPC/process_single_data",
    "/jina.JinaGatewayDryRunRPC/dry_run",
    "/jina.JinaInfoRPC/_status",
    "/jina.JinaDiscoverEndpointsRPC/endpoint_discovery",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/no.such.Service/method",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guarded")


@pytest.fixture(scope="module")
def certificates(folder: Path) -> Certificates:
    # for the name alone: by its address the same server is a wrong host
    return make_certificates(folder / "authority", "localhost", address=None)


@pytest.fixture(scope="module")
def metrics_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server(folder: Path, certificates: Certificates, metrics_port: int) -> Iterator[ServerHandle]:
    token = folder / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    with launch_server(
        "semscale-mini",
        num_threads=1,
        log_file=folder / "server.log",
        tls_cert=str(certificates.certificate),
        tls_key=str(certificates.key),
        token_file=str(token),
        metrics_port=metrics_port,
    ) as handle:
        yield handle
    assert replica_pids(handle) == []


@pytest.fixture
def url(server: ServerHandle) -> str:
    assert server.url.startswith("grpcs://127.0.0.1:")
    return server.url.replace("127.0.0.1", "localhost")


@pytest.fixture
def authority(certificates: Certificates) -> bytes:
    return certificates.authority.read_bytes()


def call(url: str, method: str, authority: bytes, *authorization: str) -> grpc.StatusCode:
    """Call a method with an empty message and return the status."""
    credentials = grpc.ssl_channel_credentials(authority)
    with grpc.secure_channel(url.removeprefix("grpcs://"), credentials) as channel:
        ask = channel.stream_stream(method)
        metadata = [("authorization", value) for value in authorization]
        answers = ask(iter([b""]), metadata=metadata, timeout=30)
        try:
            next(answers, None)
        except grpc.RpcError:
            pass
        else:
            answers.cancel()
            return grpc.StatusCode.OK
        return answers.code()


@pytest.mark.parametrize(
    "authorization", [[], ["Bearer wrong"], [""], ["Bearer"], [f"Bearer {TOKEN}", "x"], [TOKEN[:-1]]]
)
@pytest.mark.parametrize("method", METHODS)
def test_no_call_gets_in_without_the_token(
    url: str, authority: bytes, server: ServerHandle, method: str, authorization: list[str]
) -> None:
    before = server.log_file.read_text()
    assert call(url, method, authority, *authorization) == grpc.StatusCode.UNAUTHENTICATED
    assert server.log_file.read_text() == before  # a failed request would leave a line


def test_the_stock_clients_profile_is_refused_with_the_reason(url: str, authority: bytes) -> None:
    # it sends no token, whatever credentials the client has
    with pytest.raises(Exception, match=r"clip-client's profile\(\) never sends"):
        _connect(url, Access(TOKEN, authority)).profile()


def test_the_metrics_page_requires_the_token(server: ServerHandle, authority: bytes, metrics_port: int) -> None:
    page, trusted = f"https://localhost:{metrics_port}/metrics", ssl.create_default_context(cadata=authority.decode())
    assert f"metrics of replica 0 at https://127.0.0.1:{metrics_port}" in server.log_file.read_text()
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(urllib.request.Request(page, headers=headers), context=trusted)
    authorized = urllib.request.Request(page, headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(authorized, context=trusted) as answer:
        assert b"jina_successful_requests_total" in answer.read()


@pytest.mark.parametrize("authorization", [TOKEN, f"Bearer {TOKEN}", f"bearer {TOKEN}"])
def test_the_token_is_accepted_bare_and_after_bearer(url: str, authority: bytes, authorization: str) -> None:
    assert call(url, "/jina.JinaGatewayDryRunRPC/dry_run", authority, authorization) == grpc.StatusCode.OK
    assert call(url, "/grpc.health.v1.Health/Check", authority, authorization) == grpc.StatusCode.OK
    assert call(url, "/no.such.Service/method", authority, authorization) == grpc.StatusCode.UNIMPLEMENTED


def test_the_right_token_encodes(url: str, authority: bytes, tmp_path: Path) -> None:
    access = Access(TOKEN, authority)
    info, dimension = check_server(url, access=access)
    assert info is not None
    assert (info["name"], dimension) == ("semscale-mini", info["embedding_dim"])
    identity = identify_encoder(Servers([url], access), "semscale-mini", tmp_path)
    found = asyncio.run(EncodeClient(url, access=access).encode(["a cat", "a dog"]))
    assert found.embeddings.shape == (2, identity.dimension)
    assert found.reasons == [None, None]


def client_calls(url: str, access: Access, store: Path) -> list[Callable[[], object]]:
    """Return the health check, and the verification, which waits ten minutes for a missing server."""
    return [
        lambda: check_server(url, access=access),
        lambda: identify_encoder(Servers([url], access, outage_timeout=600.0), "semscale-mini", store),
    ]


def encode_text(url: str, access: Access) -> None:
    for _ in range(5):
        # where a server hangs up during a request gRPC may report only that it could not send
        with contextlib.suppress(ServerUnavailableError):
            asyncio.run(EncodeClient(url, access=access).encode(["a cat"]))


@pytest.mark.parametrize(("token", "found"), [(None, "no token"), ("wrong-5f1d", "another token")])
def test_another_token_is_refused_without_a_retry(
    url: str, authority: bytes, tmp_path: Path, token: str | None, found: str
) -> None:
    access = Access(token, authority)
    for attempt in (*client_calls(url, access, tmp_path), lambda: encode_text(url, access)):
        with pytest.raises(SemscaleError, match="refuses the token") as caught:
            attempt()
        assert caught.value.where == url
        assert found in str(caught.value.found)
        assert "server.token_file" in str(caught.value.hint)
        assert "wrong-5f1d" not in str(caught.value)


def test_a_failed_connection_names_the_reason(
    url: str, server: ServerHandle, mini_server: str, authority: bytes, tmp_path: Path
) -> None:
    other = make_certificates(tmp_path / "another").authority.read_bytes()
    plain, tls = server.url.replace("grpcs:", "grpc:"), mini_server.replace("grpc:", "grpcs:")
    for address, trusted, what, found in (
        (url, other, "no trusted connection", "its certificate is not signed by a trusted authority"),
        (url, None, "no trusted connection", "its certificate is not signed by a trusted authority"),
        (server.url, authority, "no trusted connection", "its certificate is for another host name"),
        (tls, authority, "no trusted connection", "it does not speak TLS: grpc://, not grpcs://"),
        (plain, None, "cannot connect", "it speaks TLS"),
    ):
        for attempt in client_calls(address, Access(TOKEN, trusted), tmp_path):
            with pytest.raises(SemscaleError, match=what) as caught:
                attempt()
            assert caught.value.found == found


def study_of(url: str, folder: Path, certificates: Certificates, root: Path, **server: Any) -> StudyConfig:
    return study_from(
        {
            "datasets": ["shapes"],
            "strategies": ["templates"],
            "controls": [],
            "steps": 2,
            "limit": 24,
            "store": str(root / "store"),
            "server": {"urls": [url], "ca_file": str(certificates.authority)} | server,
        }
    )


def test_a_sweep_is_accepted_and_writes_no_token(
    url: str, server: ServerHandle, folder: Path, certificates: Certificates, tmp_path: Path, ray_session: None
) -> None:
    study = study_of(url, folder, certificates, tmp_path, token_file=str(folder / "token"))
    result = sweep(study, tmp_path / "runs" / "one", SilentReporter())
    assert result.images_sent == 24
    ray_logs = Path(ray._private.worker._global_node.get_session_dir_path()) / "logs"
    left = [path for top in (tmp_path, ray_logs) for path in top.rglob("*") if path.is_file()] + [server.log_file]
    assert any(path.name == "mlflow.db" for path in left)
    assert not [path for path in left if TOKEN.encode() in path.read_bytes()]
    assert str(folder / "token") in (tmp_path / "runs" / "one" / "study.yaml").read_text()


def test_labelling_is_accepted_with_token_and_authority_from_the_environment(
    url: str,
    folder: Path,
    certificates: Certificates,
    tmp_path: Path,
    ray_session: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "words.txt").write_text("a circle\na square\nthe digit three\n")
    command = ["label", str(tmp_path / "words.txt"), "--categories", "circle,square,three", "--server", url, "--quiet"]
    command += ["--out", str(tmp_path / "out"), "--store", str(tmp_path / "store")]
    monkeypatch.setenv("SEMSCALE_SERVER_CA", str(certificates.authority))
    refused = CliRunner().invoke(main, command)
    assert refused.exit_code == 1
    assert "refuses the token" in refused.stderr
    monkeypatch.setenv("SEMSCALE_SERVER_TOKEN", TOKEN)
    assert CliRunner().invoke(main, command).exit_code == 0
    labels = [line.rpartition(",")[2] for line in (tmp_path / "out" / "results.csv").read_text().splitlines()]
    assert labels == ["label", "circle", "square", "three"]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


def test_no_command_line_contains_the_token(server: ServerHandle) -> None:
    lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in replica_pids(server)]
    assert len(lines) == 1
    assert not [line for line in lines if TOKEN.encode() in line]


def test_certificates_that_cannot_be_served_are_refused_before_the_start(tmp_path: Path) -> None:
    one, other = make_certificates(tmp_path / "one"), make_certificates(tmp_path / "other")
    check_certificate(str(one.certificate), str(one.key))
    check_certificate(None, None)
    for pair in ((one.certificate, other.key), (one.key, one.key), (tmp_path / "nowhere", one.key)):
        with pytest.raises(SemscaleError, match="cannot be used"):
            check_certificate(str(pair[0]), str(pair[1]))
    with pytest.raises(SemscaleError, match="go together") as caught:
        check_certificate(str(one.certificate), None)
    assert caught.value.where == "--tls-key"
    one.key.chmod(0o644)
    with pytest.raises(SemscaleError, match="others can read the key file"):
        check_certificate(str(one.certificate), str(one.key))


def test_a_taken_port_of_metrics_is_named() -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        config = ServeConfig("m", metrics_port=taken.getsockname()[1])
        with pytest.raises(SemscaleError, match="the metrics page cannot be served") as caught:
            serve_metrics(config, CollectorRegistry())
    assert caught.value.where == f"127.0.0.1:{config.metrics_port}"
    with pytest.raises(SemscaleError, match="the metrics page cannot be served"):
        serve_metrics(replace(config, metrics_port=65_536), CollectorRegistry())


@pytest.mark.parametrize(
    ("tls", "token", "lacks"),
    [(False, False, ["--token-file", "--tls-cert"]), (False, True, ["--tls-cert"]), (True, False, ["--token-file"])],
)
def test_an_open_door_is_said_in_one_line(tls: bool, token: bool, lacks: list[str]) -> None:
    warning = ServeConfig("m", host="0.0.0.0", tls_cert="c" if tls else None).exposure_warning(token)
    assert [name for name in ("--token-file", "--tls-cert") if name in str(warning)] == lacks
    assert ServeConfig("m", host="0.0.0.0", tls_cert="c").exposure_warning(True) is None
    assert ServeConfig("m").exposure_warning(False) is None
