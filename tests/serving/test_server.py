"""A real server, spoken to with the stock clip-client."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import psutil
import pytest
from clip_client import Client
from docarray import Document, DocumentArray
from server_processes import replica_pids

from semscale.access import Access
from semscale.encoding.verification import check_server
from semscale.errors import SemscaleError
from semscale.serving.launcher import ServerHandle

TEXTS = ["cat", "dogs", "large birds", "a small fish"]


def metrics_page(server: ServerHandle) -> str:
    return f"http://127.0.0.1:{server.supervisor.replicas[0].config.metrics_port}"


def test_handle_and_log_know_processes_and_model(mini_handle: ServerHandle) -> None:
    assert mini_handle.url.startswith("grpc://127.0.0.1:")
    assert len(replica_pids(mini_handle)) == len(mini_handle.urls) == 1
    info, dimension = check_server(mini_handle.url, access=Access())
    assert info is not None
    assert dimension == info["embedding_dim"] == 96
    assert (info["name"], info["device"]) == ("semscale-mini", "cpu")
    log = mini_handle.log_file.read_text()
    assert "replica 0: semscale-mini runs on cpu" in log
    assert f"ready at {mini_handle.url}" in log
    assert f"metrics of replica 0 at {metrics_page(mini_handle)}" in log
    assert f"weights {info['weights_sha256'][:12]}" in log


def test_pages_of_metrics_count_requests_and_documents(mini_handle: ServerHandle) -> None:
    def counts() -> list[float]:
        with urllib.request.urlopen(f"{metrics_page(mini_handle)}/metrics") as page:
            text = page.read().decode()
        names = (
            'jina_successful_requests_total{runtime_name="clip/rep-0"}',
            'jina_document_processed_total{executor_endpoint="/encode",runtime_name="clip/rep-0"}',
            'jina_encode_texts_seconds_count{runtime_name="clip/rep-0"}',
        )
        lines = dict(line.rsplit(" ", 1) for line in text.splitlines())
        return [float(lines.get(name, 0)) for name in names]

    before = counts()
    assert Client(mini_handle.url).encode(["a cat", "a dog"]).shape == (2, 96)
    assert [after - earlier for after, earlier in zip(counts(), before, strict=True)] == [1, 2, 1]


@pytest.mark.faults
def test_pings_do_not_cost_the_connection(mini_handle: ServerHandle) -> None:
    # clip-client pings every 10 s; gRPC pings once a second at most, and its servers bear two pings
    options = [
        ("grpc.keepalive_time_ms", 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    ready, lost = threading.Event(), threading.Event()

    def watch(state: Any) -> None:
        if state is grpc.ChannelConnectivity.READY:
            ready.set()
        elif ready.is_set():
            lost.set()

    with grpc.insecure_channel(mini_handle.url.removeprefix("grpc://"), options=options) as channel:
        channel.subscribe(watch, try_to_connect=True)
        assert ready.wait(20)
        assert not lost.wait(4), "the connection was closed after some pings"


def test_plain_strings_work_as_with_a_stock_server(mini_handle: ServerHandle) -> None:
    assert Client(mini_handle.url)._client.is_flow_ready()
    assert Client(mini_handle.url).encode(TEXTS).shape == (4, 96)
    assert Client(mini_handle.url).profile()["Roundtrip"] > 0


class Ran:
    """Says so when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)

    def __init__(self, path: Path) -> None:
        self.path = path


def test_a_pickle_in_a_request_is_refused_and_not_run(mini_handle: ServerHandle, tmp_path: Path) -> None:
    from jina.proto import jina_pb2

    request = jina_pb2.DataRequestProto()
    request.data.docs_bytes = pickle.dumps(Ran(tmp_path / "ran"))
    with grpc.insecure_channel(mini_handle.url.removeprefix("grpc://")) as channel:
        ask = channel.unary_unary("/jina.JinaSingleDataRequestRPC/process_single_data")
        with pytest.raises(grpc.RpcError) as caught:
            ask(request.SerializeToString(), timeout=30)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        stream = channel.stream_stream("/jina.JinaRPC/Call")
        with pytest.raises(grpc.RpcError):
            list(stream(iter([request.SerializeToString()]), timeout=30))
    assert not (tmp_path / "ran").exists()


def test_a_client_may_wait_for_an_answer_before_it_goes_on(mini_handle: ServerHandle) -> None:
    from jina.proto import jina_pb2
    from jina.types.request.data import DataRequest

    answered = threading.Semaphore(1)

    def requests() -> Iterator[bytes]:
        for text in TEXTS:
            assert answered.acquire(timeout=30)
            request = DataRequest()
            request.header.exec_endpoint = "/encode"
            request.data.docs = DocumentArray([Document(text=text)])
            yield request.proto.SerializeToString()

    with grpc.insecure_channel(mini_handle.url.removeprefix("grpc://")) as channel:
        count = 0
        for answer in channel.stream_stream("/jina.JinaRPC/Call")(requests(), timeout=60):
            assert jina_pb2.DataRequestProto.FromString(answer).header.status.code == jina_pb2.StatusProto.SUCCESS
            count += 1
            answered.release()
    assert count == len(TEXTS)


def test_it_listens_on_loopback_only(mini_handle: ServerHandle) -> None:
    connections = [one for pid in replica_pids(mini_handle) for one in psutil.Process(pid).net_connections("tcp")]
    addresses = {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN}
    assert addresses
    assert addresses <= {"127.0.0.1", "::ffff:127.0.0.1"}


def test_a_server_that_hangs_is_not_healthy_until_it_goes_on(mini_handle: ServerHandle) -> None:
    (pid,) = replica_pids(mini_handle)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(SemscaleError, match="does not answer") as caught:
            check_server(mini_handle.url, timeout=0.9)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "no answer within" in str(caught.value.found)
    assert check_server(mini_handle.url, timeout=30)[1] == 96
