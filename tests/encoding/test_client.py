"""Client of a real clip-server, packed requests included, and the verification of endpoints."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docarray import DocumentArray
from server_processes import answering, pickle_that_makes

from semscale.common.access import Access
from semscale.common.errors import SemscaleError
from semscale.datasets.image_decoding import decode
from semscale.datasets.loader_registry import load_dataset
from semscale.encoding.client import EncodeClient, Encoded, ServerUnavailableError
from semscale.encoding.image_pipeline import Picture, prepare, to_ppm
from semscale.encoding.server_discovery import Servers
from semscale.encoding.verification import check_server, identify_encoder
from semscale.store.encoder_fingerprint import EncoderIdentity


@pytest.fixture
def silent_url() -> Iterator[tuple[str, socket.socket]]:
    """Address of a socket that does not listen yet and never answers."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"grpc://127.0.0.1:{taken.getsockname()[1]}", taken


@pytest.fixture
def identity(mini_server: str, tmp_path: Path) -> EncoderIdentity:
    return identify_encoder(Servers([mini_server]), "semscale-mini", tmp_path)


def pictures(n: int, side: int = 40) -> list[Picture]:
    dataset = load_dataset("shapes", limit=n)
    spec = {"size": side, "interpolation": "bicubic"}
    return [prepare(decode(dataset.reader.read(sample.file)), spec) for sample in dataset.samples]


def encode(url: str, contents: Sequence[Any], **options: Any) -> Encoded:
    async def call() -> Encoded:
        return await EncodeClient(url, **options).encode(contents)

    return asyncio.run(call())


@pytest.mark.parametrize(("batch_size", "side", "sent"), [(None, 40, 50), (7, 40, 50), (50, 40, 50), (None, 48, 100)])
def test_packed_and_single_images_have_the_same_embeddings(
    batch_size: int | None, side: int, sent: int, mini_server: str
) -> None:
    """A server rejects packed images of another size than the model's, and resizes the single ones sent instead."""
    packed = encode(mini_server, pictures(50, side), batch_size=batch_size)
    single = encode(mini_server, [to_ppm(picture) for picture in pictures(50, side)])
    assert (packed.reasons, packed.sent) == ([None] * 50, sent)
    assert np.array_equal(packed.embeddings, single.embeddings)


def test_a_bad_document_is_isolated(mini_server: str) -> None:
    dataset = load_dataset("digits", limit=20)
    contents = [dataset.reader.read(sample.file) for sample in dataset.samples]
    alone = encode(mini_server, contents)
    contents[7] = b"poison"
    encoded = encode(mini_server, contents)
    assert [i for i, reason in enumerate(encoded.reasons) if reason] == [7]
    assert "image" in str(encoded.reasons[7])
    assert encoded.sent == 20 + 19  # the server names the bad document, and the others are sent once more
    good = [i for i in range(20) if i != 7]
    # bit for bit the same rows in other requests
    assert np.array_equal(encoded.embeddings[good], alone.embeddings[good])


@pytest.mark.parametrize("contents", [["cat"], [np.zeros((40, 40, 3), dtype=np.uint8)]])
def test_a_hung_server_is_given_up_at_the_deadline(contents: list[Any], silent_url: tuple[str, socket.socket]) -> None:
    url, taken = silent_url
    taken.listen()
    with pytest.raises(ServerUnavailableError, match="no answer"):
        encode(url, contents, deadline=1)


def test_no_server_at_the_address_is_a_user_error(silent_url: tuple[str, socket.socket], tmp_path: Path) -> None:
    url, _ = silent_url
    with pytest.raises(SemscaleError, match="no clip-server answers") as caught:
        identify_encoder(Servers([url], outage_timeout=0.5), "semscale-mini", tmp_path)
    assert url in str(caught.value)


def test_identity_comes_from_the_weights(identity: EncoderIdentity, mini_server: str, tmp_path: Path) -> None:
    assert identity.info is not None
    assert identity.info["name"] == "semscale-mini"
    assert identity.dimension == identity.info["embedding_dim"]
    assert identity.fingerprint.startswith("semscale-mini-")
    draft = identify_encoder(Servers([mini_server]), "semscale-mini", tmp_path, draft=True)
    assert draft.fingerprint != identity.fingerprint
    assert (draft.draft, identity.draft) == (True, False)


def test_other_embeddings_of_a_known_model_are_rejected(
    identity: EncoderIdentity, mini_server: str, tmp_path: Path
) -> None:
    record = tmp_path / identity.fingerprint / "encoder.json"
    content = json.loads(record.read_text())
    content["probe"] = (-np.array(content["probe"])).tolist()
    record.write_text(json.dumps(content))
    with pytest.raises(SemscaleError, match="gives other embeddings"):
        identify_encoder(Servers([mini_server]), "semscale-mini", tmp_path)


def test_the_first_usable_endpoint_identifies_the_encoder(
    silent_url: tuple[str, socket.socket], mini_server: str, tmp_path: Path
) -> None:
    servers = Servers([silent_url[0], mini_server], outage_timeout=0.5)
    assert identify_encoder(servers, "semscale-mini", tmp_path).packed
    with pytest.raises(SemscaleError, match="runs another model"):
        identify_encoder(servers, "some-other-clip", tmp_path)


def embedded(request: Any, *values: float) -> None:
    """Set embeddings of one repeated value."""
    docs = DocumentArray.from_protobuf(request.data.docs)
    for doc, value in zip(docs, values * len(docs), strict=False):
        doc.embedding = np.full(4, value, dtype=np.float32)
    request.data.docs.CopyFrom(docs.to_protobuf())


def test_an_answer_that_would_run_code_is_rejected(tmp_path: Path) -> None:
    def make(request: Any) -> None:
        request.data.docs_bytes = pickle_that_makes(tmp_path / "ran")

    with answering(make) as url:
        for attempt in (
            lambda: check_server(url, access=Access()),
            lambda: identify_encoder(Servers([url]), "semscale-mini", tmp_path / "store"),
            lambda: encode(url, ["a cat"]),
            lambda: encode(url, pictures(2)),
        ):
            with pytest.raises(SemscaleError, match="the server's answer cannot be read: documents in pickled form"):
                attempt()
    assert not (tmp_path / "ran").exists()


def test_an_unreadable_answer_is_one_sentence() -> None:
    def renamed(request: Any) -> None:
        embedded(request, 1.0)
        request.data.docs.docs[0].id = "no number"

    def without_reasons(request: Any) -> None:
        request.header.status.code = 1
        request.header.status.exception.name = "RejectedDocumentsError"

    def info(text: str) -> Callable[[Any], None]:
        def make(request: Any) -> None:
            embedded(request, 1.0)
            request.data.docs.docs[0].tags["semscale_info"] = text

        return make

    valid = {"name": "m", "device": "cpu", "dtype": "fp32", "preprocess": {"size": 224, "interpolation": "bicubic"}}
    huge = {"size": [10**6, 10**6], "interpolation": "bicubic", "resize_mode": "squash"}
    odd = [json.dumps(valid | more) for more in ({"preprocess": huge}, {"preprocess": []}, {"minibatch_size": None})]
    with answering(info(json.dumps(valid))) as url:
        assert check_server(url, access=Access()) == (valid, 4)
    for make in (renamed, without_reasons, info("[" * 100_000), info("[]"), info("{}"), *map(info, odd)):
        with answering(make) as url, pytest.raises(SemscaleError, match="cannot be read"):
            check_server(url, access=Access())


@pytest.mark.parametrize(
    ("failure", "retryable"), [("RuntimeError", {1}), ("UnidentifiedImageError", set()), ("", {1})]
)
def test_transient_failures_are_retryable_and_permanent_ones_are_not(failure: str, retryable: set[int]) -> None:
    def make(request: Any) -> None:
        if failure and any(doc.text == "odd" for doc in request.data.docs.docs):
            request.header.status.code = 1
            request.header.status.exception.name = request.header.status.description = failure
            return
        embedded(request, *([1.0, float("nan"), 1.0] if not failure else [1.0]))

    with answering(make) as url:
        encoded = encode(url, ["one", "odd", "two"])
    assert [reason is None for reason in encoded.reasons] == [True, False, True]
    assert encoded.retryable == retryable


def test_invalid_texts_are_not_sent(mini_server: str) -> None:
    encoded = encode(mini_server, ["cat", " ", "w" * 20_001])
    assert encoded.reasons == [None, "the text is empty", "a text of 20001 characters is longer than 20000"]
    assert encoded.sent == 1
