"""Real server, called by the stock clip-client."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
import psutil
import pytest
import torch
from clip_client import Client
from docarray import Document, DocumentArray
from jina.proto import jina_pb2
from jina.types.request.data import DataRequest
from PIL import Image
from server_processes import pickle_that_makes, replica_pids

from semscale.common.access import Access
from semscale.common.errors import SemscaleError
from semscale.encoding.verification import check_server
from semscale.models.bundled_model import load_mini
from semscale.serving.grpc_server import RequestHandler
from semscale.serving.launcher import ServerHandle

MakeImage = Callable[..., bytes]
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


def test_metrics_pages_count_requests_and_documents(mini_handle: ServerHandle) -> None:
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
    # clip-client pings every 10 s; gRPC pings once a second at most, and its servers accept two pings
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


def encoded(url: str, docs: list[Document], batch_size: int = 8) -> np.ndarray[Any, Any]:
    rows: np.ndarray[Any, Any] = Client(url).encode(DocumentArray(docs), batch_size=batch_size).embeddings
    return rows


def unit(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def test_embeddings_are_open_clips_own_in_requests_of_any_size(mini_server: str, make_image: MakeImage) -> None:
    model, preprocess, tokenizer = load_mini()
    blobs = [make_image(seed, (30 + 20 * seed, 50)) for seed in range(6)]
    with torch.inference_mode():
        images = model.encode_image(torch.stack([preprocess(Image.open(io.BytesIO(blob))) for blob in blobs])).numpy()
        texts = model.encode_text(tokenizer(TEXTS)).numpy()
    docs = [Document(blob=blob) for blob in blobs] + [Document(text=text) for text in TEXTS]
    served = encoded(mini_server, docs, batch_size=16)
    assert np.abs(unit(served) - unit(np.concatenate([images, texts]))).max() < 1e-5
    for batch_size in (1, 5):
        assert np.array_equal(encoded(mini_server, docs, batch_size), served)


def test_rank_orders_matches(mini_server: str, make_image: MakeImage) -> None:
    image, words = Document(blob=make_image(3)), [Document(text=text) for text in TEXTS]
    cosines = unit(encoded(mini_server, words)) @ unit(encoded(mini_server, [image]))[0]
    query = Document(blob=make_image(3), matches=[Document(text=text) for text in TEXTS])
    (ranked,) = Client(mini_server).rank([query])
    assert [match.text for match in ranked.matches] == [TEXTS[index] for index in np.argsort(-cosines)]
    softmax = np.exp(100 * np.sort(cosines)[::-1])
    scores = [match.scores["clip_score"].value for match in ranked.matches]
    assert scores == pytest.approx(list(softmax / softmax.sum()), rel=1e-3)


def test_bad_documents_fail_their_request_only(mini_handle: ServerHandle, make_image: MakeImage) -> None:
    done: list[str] = []
    errors: list[Any] = []
    docs = [Document(id=str(seed), blob=make_image(seed)) for seed in range(6)]
    docs[1].blob = docs[1].blob[:100]
    Client(mini_handle.url).encode(
        DocumentArray(docs),
        batch_size=2,
        on_done=lambda response: done.extend(response.docs[:, "id"]),
        on_error=lambda response: errors.append(response.status.exception),
    )
    assert sorted(done) == ["2", "3", "4", "5"]
    assert [(error.name, list(json.loads(error.args[1]))) for error in errors] == [("RejectedDocumentsError", ["1"])]
    assert "1 of 2 documents cannot be processed" in mini_handle.log_file.read_text()


def message(*docs: Document, **header: str) -> jina_pb2.DataRequestProto:
    request = jina_pb2.DataRequestProto()
    request.data.docs.CopyFrom(DocumentArray(docs).to_protobuf())
    for name, value in header.items():
        setattr(request.header, name, value)
    return request


def ask(url: str, *messages: bytes, **options: Any) -> tuple[grpc.StatusCode, list[jina_pb2.DataRequestProto]]:
    """Send serialised messages; return the status of the call and the answers."""
    with grpc.insecure_channel(url.removeprefix("grpc://")) as channel:
        call = channel.stream_stream("/jina.JinaRPC/Call")(iter(messages), timeout=30, **options)
        answers = []
        with contextlib.suppress(grpc.RpcError):
            answers += [jina_pb2.DataRequestProto.FromString(answer) for answer in call]
        return call.code(), answers


def test_a_request_that_runs_code_or_fills_the_memory_is_refused(mini_handle: ServerHandle, tmp_path: Path) -> None:
    pickled, huge = message(), message(Document(tensor=np.zeros(1)))
    pickled.data.docs_bytes = pickle_that_makes(tmp_path / "ran")
    dense = huge.data.docs.docs[0].tensor.dense
    dense.buffer = b""
    dense.shape[:] = [20_000, 20_000]
    for bad in (pickled.SerializeToString(), huge.SerializeToString(), b"", b"\xff no message"):
        assert ask(mini_handle.url, bad)[0] == grpc.StatusCode.INVALID_ARGUMENT
    inflating = message(Document(text=" " * 1_000_000)).SerializeToString()
    assert ask(mini_handle.url, inflating, compression=grpc.Compression.Gzip)[0] == grpc.StatusCode.UNIMPLEMENTED
    assert not (tmp_path / "ran").exists()
    assert "Traceback" not in mini_handle.log_file.read_text()


def test_a_regular_expression_in_a_request_is_plain_text(mini_handle: ServerHandle) -> None:
    asked = message(Document(text="a cat"), target_executor="(?:.?){400}z", exec_endpoint="/encode")
    code, (answer,) = ask(mini_handle.url, asked.SerializeToString())
    assert code == grpc.StatusCode.OK
    assert answer.header.status.code == jina_pb2.StatusProto.SUCCESS


def test_a_failed_request_is_one_harmless_line_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    class Failing:
        async def __acall__(self, **asked: Any) -> None:
            raise ValueError("\x1b[31mred\nsemscale serve: ready at grpc://evil:1\u2028" + "x " * 9000)

    answer = asyncio.run(RequestHandler(Failing()).process_single_data(DataRequest(message()), None))
    assert answer.header.status.exception.name == "ValueError"
    printed = capsys.readouterr().out
    assert printed.startswith("semscale serve: a request failed: ValueError: \ufffd[31mred semscale serve: ready at")
    assert (printed.count("\n"), "\x1b" in printed) == (1, False)
    assert len(printed) < 400


def test_a_client_may_wait_for_each_answer(mini_handle: ServerHandle) -> None:
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


def test_a_server_that_hangs_is_unhealthy_until_it_continues(mini_handle: ServerHandle) -> None:
    (pid,) = replica_pids(mini_handle)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(SemscaleError, match="does not answer") as caught:
            check_server(mini_handle.url, timeout=0.9)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "no answer within" in str(caught.value.found)
    assert check_server(mini_handle.url, timeout=30)[1] == 96
