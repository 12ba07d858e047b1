"""A real server, spoken to with the stock clip-client."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
import psutil
import pytest
from clip_client import Client
from docarray import Document, DocumentArray
from server_processes import replica_pids

from semscale.access import Access
from semscale.encoding.verification import check_server
from semscale.errors import SemscaleError
from semscale.serving.launcher import ServerHandle, launch_server

MakeImage = Callable[..., bytes]
TEXTS = ["cat", "dogs", "large birds", "a small fish"]


@pytest.fixture(scope="module")
def metrics_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server(tiny_model: Path, metrics_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHandle]:
    log = tmp_path_factory.mktemp("server") / "server.log"
    options = {"minibatch_size": 4, "num_threads": 1, "metrics_port": metrics_port}
    with pytest.MonkeyPatch.context() as patch:
        # a server of one's own stays plain, whatever the environment says
        patch.setenv("SEMSCALE_SERVER_TOKEN", "tok-5f1d0c7e9a")
        handle = launch_server(str(tiny_model), log_file=log, **options)
    with handle:
        yield handle
    assert replica_pids(handle) == []


def encode(server: ServerHandle, docs: list[Document], batch_size: int = 8) -> np.ndarray[Any, Any]:
    result = Client(server.url).encode(DocumentArray(docs), batch_size=batch_size)
    rows: np.ndarray[Any, Any] = result.embeddings
    return rows


def unit(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    lengths: np.ndarray[Any, Any] = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / lengths)


def test_handle_and_log_know_processes_and_model(server: ServerHandle, tiny_model: Path, metrics_port: int) -> None:
    assert server.url.startswith("grpc://127.0.0.1:")
    assert len(replica_pids(server)) == len(server.urls) == 1
    info, dimension = check_server(server.url, access=Access())
    assert info is not None
    assert dimension == info["embedding_dim"] == 48
    assert (info["name"], info["device"]) == (str(tiny_model), "cpu")
    log = server.log_file.read_text()
    assert f"replica 0: {info['name']} runs on cpu" in log
    assert f"ready at {server.url}" in log
    assert f"metrics of replica 0 at http://127.0.0.1:{metrics_port}" in log
    assert f"weights {info['weights_sha256'][:12]}" in log


def test_pages_of_metrics_count_requests_and_documents(server: ServerHandle, metrics_port: int) -> None:
    def counts() -> list[float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics") as page:
            text = page.read().decode()
        names = (
            'jina_successful_requests_total{runtime_name="clip/rep-0"}',
            'jina_document_processed_total{executor_endpoint="/encode",runtime_name="clip/rep-0"}',
            'jina_encode_texts_seconds_count{runtime_name="clip/rep-0"}',
        )
        lines = dict(line.rsplit(" ", 1) for line in text.splitlines())
        return [float(lines.get(name, 0)) for name in names]

    before = counts()
    assert Client(server.url).encode(["a cat", "a dog"]).shape == (2, 48)
    assert [after - earlier for after, earlier in zip(counts(), before, strict=True)] == [1, 2, 1]


@pytest.mark.faults
def test_pings_do_not_cost_the_connection(server: ServerHandle) -> None:
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

    with grpc.insecure_channel(server.url.removeprefix("grpc://"), options=options) as channel:
        channel.subscribe(watch, try_to_connect=True)
        assert ready.wait(20)
        assert not lost.wait(4), "the connection was closed after some pings"


def test_embeddings_equal_open_clips_own(server: ServerHandle, make_image: MakeImage, tiny_model: Path) -> None:
    import io

    import open_clip
    import torch
    from PIL import Image

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tiny_model}")
    model.eval()
    blobs = [make_image(seed, (30 + 20 * seed, 50)) for seed in range(10)]
    with torch.inference_mode():
        images = torch.stack([preprocess(Image.open(io.BytesIO(blob))) for blob in blobs])
        own_images = model.encode_image(images).numpy()
        own_texts = model.encode_text(open_clip.get_tokenizer(f"local-dir:{tiny_model}")(TEXTS)).numpy()
    served = encode(server, [Document(blob=blob) for blob in blobs])
    assert np.abs(unit(served) - unit(own_images)).max() < 1e-5
    assert np.abs(unit(encode(server, [Document(text=text) for text in TEXTS])) - unit(own_texts)).max() < 1e-5


def test_request_sizes_give_the_same_bits(server: ServerHandle, make_image: MakeImage) -> None:
    docs = [Document(blob=make_image(seed)) for seed in range(12)] + [Document(text=text) for text in TEXTS]
    reference = encode(server, docs, batch_size=16)
    for batch_size in (1, 5):
        assert np.array_equal(encode(server, docs, batch_size), reference)


def test_plain_strings_work_as_with_a_stock_server(server: ServerHandle) -> None:
    assert Client(server.url).encode(TEXTS).shape == (4, 48)
    assert Client(server.url).profile()["Roundtrip"] > 0


def test_rank_orders_matches(server: ServerHandle, make_image: MakeImage) -> None:
    image = make_image(3)
    (ranked,) = Client(server.url).rank([Document(blob=image, matches=[Document(text=text) for text in TEXTS])])
    texts = unit(encode(server, [Document(text=text) for text in TEXTS]))
    cosines = texts @ unit(encode(server, [Document(blob=image)]))[0]
    assert [match.text for match in ranked.matches] == [TEXTS[place] for place in np.argsort(-cosines)]
    softmax = np.exp(100 * np.sort(cosines)[::-1])
    scores = [match.scores["clip_score"].value for match in ranked.matches]
    assert scores == pytest.approx(list(softmax / softmax.sum()), rel=1e-3)


def test_bad_documents_fail_their_request_only(server: ServerHandle, make_image: MakeImage) -> None:
    done: list[str] = []
    errors: list[Any] = []

    def on_done(response: Any) -> None:
        done.extend(response.docs[:, "id"])

    def on_error(response: Any) -> None:
        errors.append(response.status)

    docs = [Document(id=str(seed), blob=make_image(seed)) for seed in range(6)]
    docs[1].blob = docs[1].blob[:100]
    docs.append(Document(id="6", text=" "))
    Client(server.url).encode(DocumentArray(docs), batch_size=2, on_done=on_done, on_error=on_error)
    assert sorted(done) == ["2", "3", "4", "5"]
    reasons = [json.loads(status.exception.args[1]) for status in errors]
    assert {key for reason in reasons for key in reason} == {"1", "6"}
    assert {status.exception.name for status in errors} == {"RejectedDocumentsError"}
    assert encode(server, docs[2:6]).shape == (4, 48)
    assert "1 of 2 documents cannot be processed" in server.log_file.read_text()


class Ran:
    """Says so when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)

    def __init__(self, path: Path) -> None:
        self.path = path


def test_a_pickle_in_a_request_is_refused_and_not_run(server: ServerHandle, tmp_path: Path) -> None:
    from jina.proto import jina_pb2

    request = jina_pb2.DataRequestProto()
    request.data.docs_bytes = pickle.dumps(Ran(tmp_path / "ran"))
    with grpc.insecure_channel(server.url.removeprefix("grpc://")) as channel:
        ask = channel.unary_unary("/jina.JinaSingleDataRequestRPC/process_single_data")
        with pytest.raises(grpc.RpcError) as caught:
            ask(request.SerializeToString(), timeout=30)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        stream = channel.stream_stream("/jina.JinaRPC/Call")
        with pytest.raises(grpc.RpcError):
            list(stream(iter([request.SerializeToString()]), timeout=30))
    assert not (tmp_path / "ran").exists()


def test_a_client_may_wait_for_an_answer_before_it_goes_on(server: ServerHandle) -> None:
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

    with grpc.insecure_channel(server.url.removeprefix("grpc://")) as channel:
        count = 0
        for answer in channel.stream_stream("/jina.JinaRPC/Call")(requests(), timeout=60):
            assert jina_pb2.DataRequestProto.FromString(answer).header.status.code == jina_pb2.StatusProto.SUCCESS
            count += 1
            answered.release()
    assert count == len(TEXTS)


def test_client_asks_whether_it_is_ready(server: ServerHandle) -> None:
    assert Client(server.url)._client.is_flow_ready()


def test_it_listens_on_loopback_only(server: ServerHandle) -> None:
    connections = [one for pid in replica_pids(server) for one in psutil.Process(pid).net_connections("tcp")]
    addresses = {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN}
    assert addresses
    assert addresses <= {"127.0.0.1", "::ffff:127.0.0.1"}


def test_a_server_that_hangs_is_not_healthy_until_it_goes_on(server: ServerHandle) -> None:
    (pid,) = replica_pids(server)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(SemscaleError, match="does not answer") as caught:
            check_server(server.url, timeout=0.9)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "no answer within" in str(caught.value.found)
    assert check_server(server.url, timeout=30)[1] == 48


@pytest.mark.faults
def test_start_that_fails_says_why_in_the_models_words(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    with pytest.raises(SemscaleError, match="no such weights file") as caught:
        launch_server("ViT-B-32::/nowhere/weights.safetensors", log_file=log)
    assert caught.value.found == "/nowhere/weights.safetensors"
    lines = log.read_text()
    assert "loading ViT-B-32::/nowhere/weights.safetensors" in lines
    assert "Traceback" not in lines
