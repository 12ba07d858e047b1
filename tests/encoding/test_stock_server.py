"""Stock clip-server: no identity, other preprocessing, and errors that do not name the bad document."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_client import Client
from clip_server.model import clip
from docarray import Document, DocumentArray

from semscale.common.errors import SemscaleError
from semscale.datasets.loader_registry import load_dataset
from semscale.encoding.client import EncodeClient
from semscale.encoding.distributed_encoder import DistributedEncoder
from semscale.encoding.image_pipeline import to_ppm
from semscale.encoding.server_discovery import Servers
from semscale.encoding.verification import identify_encoder
from semscale.models.bundled_model import load_mini


@pytest.fixture(scope="module", params=[[], pytest.param(["flow"], marks=pytest.mark.faults)], ids=["one", "flow"])
def stock_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("stock") / "server.log"
    command = [sys.executable, str(Path(__file__).parent / "stock_server.py"), str(port), *request.param]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        try:
            url = f"grpc://127.0.0.1:{port}"
            identify_encoder(Servers([url], outage_timeout=120), "some-clip", log.parent / "store")
            yield url
        finally:
            # the session's group has only the gateway and the executor
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)


def test_whole_files_are_sent(stock_server: str, tmp_path: Path, ray_session: None) -> None:
    dataset = load_dataset("shapes", limit=30)
    identity = identify_encoder(Servers([stock_server]), "some-clip", tmp_path)
    assert identity.info is None
    assert identity.fingerprint.startswith("some-clip-")
    with DistributedEncoder(identity, Servers([stock_server]), tmp_path, actors=1, batch_size=8) as encoder:
        encoded = encoder.encode_images(dataset)
        encoder.encode_texts(["circle", "star"])
        ours = encoder.image_embeddings(encoded.keys)
        words = encoder.text_embeddings(["circle", "star"])
    model, _, tokenize = load_mini()
    transform = clip._transform_blob(model.visual.preprocess_cfg["size"])
    files = [dataset.reader.read(sample.file) for sample in dataset.samples]
    with torch.inference_mode():
        images = model.encode_image(torch.stack([transform(file) for file in files]), normalize=True).numpy()
        texts = model.encode_text(tokenize(["circle", "star"]), normalize=True).numpy()
    assert np.abs(ours - images).max() < 1e-5
    assert np.abs(words - texts).max() < 1e-5


def test_a_bad_document_is_isolated_by_smaller_requests(stock_server: str) -> None:
    dataset = load_dataset("digits", limit=20)
    contents = [dataset.reader.read(sample.file) for sample in dataset.samples]
    contents[11] = b"no picture"

    async def encode():  # type: ignore[no-untyped-def]
        return await EncodeClient(stock_server, batch_size=16).encode(contents)

    encoded = asyncio.run(encode())
    assert [i for i, reason in enumerate(encoded.reasons) if reason] == [11]
    assert np.allclose(np.linalg.norm(np.delete(encoded.embeddings, 11, axis=0), axis=1), 1, atol=1e-6)


def test_images_are_sent_one_by_one_to_a_server_without_packed_requests(stock_server: str) -> None:
    noise = np.random.default_rng(8).integers(0, 256, (12, 40, 40, 3), dtype=np.uint8)

    async def encode(contents):  # type: ignore[no-untyped-def]
        return await EncodeClient(stock_server, batch_size=4).encode(contents)

    packed = asyncio.run(encode(list(noise)))
    single = asyncio.run(encode([to_ppm(picture) for picture in noise]))
    assert packed.reasons == [None] * 12
    assert np.allclose(packed.embeddings, single.embeddings, atol=1e-5)


def test_semscales_server_gives_the_same_answers(stock_server: str, mini_server: str) -> None:
    grey, colours = np.full((50, 60, 1), 90, np.uint8), np.full((50, 60, 3), 90, np.uint8)

    def ask(url: str, paths: dict[str, str], endpoint: str) -> DocumentArray:
        docs = [
            Document(text="a cat", chunks=[Document(text="a dog"), Document(tensor=grey)]),
            Document(chunks=[Document(text="a bird", chunks=[Document(tensor=colours)])]),
            Document(tensor=grey, matches=[Document(text=" ")]),
            Document(tensor=colours[..., 0]),
            Document(text="word " * 5000),
            Document(text="  \n"),
            Document(),
        ]
        (answer,) = Client(url)._client.post(endpoint, DocumentArray(docs), parameters=paths, return_responses=True)
        assert answer.header.status.code == 0
        return answer.docs["@r,c,m,cc"]

    for endpoint in ("/", "/encode"):
        for paths in ({}, {"access_paths": "@c"}, {"access_paths": "@r,c,cc"}, {"traversal_paths": "@m"}):
            theirs, ours = ask(stock_server, paths, endpoint), ask(mini_server, paths, endpoint)
            assert [doc.embedding is None for doc in ours] == [doc.embedding is None for doc in theirs]
            assert any(doc.embedding is not None for doc in ours)
            for doc, other in zip(ours, theirs, strict=True):  # the stock server preprocesses images differently
                assert not doc.text or doc.embedding is None or np.allclose(doc.embedding, other.embedding, atol=1e-4)
    for content in ("", "a cat"):
        theirs, ours = (Client(url).profile(content) for url in (stock_server, mini_server))
        assert ours.keys() == theirs.keys()
        assert all(milliseconds >= 0 for milliseconds in ours.values())


def test_draft_decoding_is_an_error_if_the_server_preprocesses(stock_server: str, tmp_path: Path) -> None:
    with pytest.raises(SemscaleError, match="draft decoding needs"):
        identify_encoder(Servers([stock_server]), "some-clip", tmp_path, draft=True)
