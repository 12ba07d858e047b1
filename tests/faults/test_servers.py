"""Servers that go, hang, are slow, or are not what they were: the rows are those of an undisturbed run."""

from __future__ import annotations

import socket
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semscale.common.errors import SemscaleError
from semscale.datasets.dataset import Dataset
from semscale.encoding.distributed_encoder import DistributedEncoder
from semscale.encoding.server_discovery import Servers
from semscale.encoding.store_backed_encoder import EncodedImages
from semscale.encoding.verification import identify_encoder
from semscale.store.embedding_store import EmbeddingStore
from semscale.store.encoder_fingerprint import EncoderIdentity


@pytest.fixture
def identity(mini_server: str, tmp_path: Path) -> EncoderIdentity:
    return identify_encoder(Servers([mini_server]), "semscale-mini", tmp_path / "store")


def check(encoder: DistributedEncoder, encoded: EncodedImages, undisturbed: EmbeddingStore) -> None:
    assert len(encoded.keys) == len(undisturbed)
    assert np.array_equal(encoder.image_embeddings(encoded.keys), undisturbed.read(encoded.keys))


@pytest.mark.faults
def test_a_server_that_is_killed_and_comes_back_is_waited_for(
    odd_server: Any, identity: EncoderIdentity, dataset: Dataset, undisturbed: EmbeddingStore, tmp_path: Path
) -> None:
    server = odd_server(delay=0.002)
    identify_encoder(Servers([server.url]), "semscale-mini", tmp_path / "store")
    notes: list[str] = []

    def note(line: str) -> None:
        notes.append(line)
        if server.process.poll() is not None:
            server.start()

    def killed_once(done: int, total: int) -> None:
        if not notes and server.process.poll() is None:
            server.kill()

    with DistributedEncoder(identity, Servers([server.url], log=note), tmp_path / "store", batch_size=16) as encoder:
        check(encoder, encoder.encode_images(dataset, killed_once), undisturbed)
    assert notes[0].startswith(f"{server.url} is unavailable and retried later: ")


@pytest.mark.faults
def test_a_server_that_stays_away_stops_the_encoding_and_what_is_encoded_is_kept(
    odd_server: Any, identity: EncoderIdentity, dataset: Dataset, mini_server: str, tmp_path: Path
) -> None:
    server = odd_server(delay=0.002)
    identify_encoder(Servers([server.url]), "semscale-mini", tmp_path / "store")
    with (
        DistributedEncoder(
            identity, Servers([server.url], outage_timeout=2), tmp_path / "store", batch_size=16
        ) as encoder,
        pytest.raises(SemscaleError, match="no clip-server answers any more") as caught,
    ):
        encoder.encode_images(dataset, lambda done, total: server.kill())
    assert caught.value.where == server.url
    assert "what is encoded is kept" in str(caught.value.hint)
    kept = len(EmbeddingStore(tmp_path / "store" / identity.fingerprint / "image"))
    assert kept > 0
    with DistributedEncoder(identity, Servers([mini_server]), tmp_path / "store", batch_size=16) as encoder:
        assert encoder.encode_images(dataset).sent == len(dataset.samples) - kept


def test_another_endpoint_takes_over_from_one_that_hangs(
    identity: EncoderIdentity, dataset: Dataset, undisturbed: EmbeddingStore, mini_server: str, tmp_path: Path
) -> None:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        hung = f"grpc://127.0.0.1:{listener.getsockname()[1]}"
        with DistributedEncoder(
            identity, Servers([hung, mini_server]), tmp_path / "store", batch_size=16, deadline=5
        ) as encoder:
            check(encoder, encoder.encode_images(dataset), undisturbed)


def test_a_server_that_is_another_encoder_is_refused_by_name(
    identity: EncoderIdentity, mini_server: str, ray_session: None, tmp_path: Path
) -> None:
    notes: list[str] = []
    servers, other = Servers([mini_server], log=notes.append), replace(identity, fingerprint="another-encoder")
    with (
        DistributedEncoder(other, servers, tmp_path / "store", actors=1) as encoder,
        pytest.raises(SemscaleError, match="no clip-server is left") as caught,
    ):
        encoder.encode_texts(["something new"])
    assert caught.value.where == mini_server
    assert f"it is another encoder: {identity.fingerprint} instead of another-encoder" in str(caught.value.found)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("other", "gives other embeddings"),
        ("renamed", "runs another model: some-other-clip"),
        ("dimension", "95 numbers instead of 96"),
        ("fewer", "cannot encode"),
        ("zeros", "an embedding of zeros"),
        ("nan", "not finite"),
    ],
)
def test_a_wrong_endpoint_is_refused_by_name_and_its_work_goes_to_the_others(
    answer: str,
    found: str,
    odd_server: Any,
    identity: EncoderIdentity,
    dataset: Dataset,
    undisturbed: EmbeddingStore,
    mini_server: str,
    tmp_path: Path,
) -> None:
    wrong = odd_server(answer=answer)
    wrong.wait()
    notes: list[str] = []
    urls = [wrong.url, mini_server]
    with DistributedEncoder(identity, Servers(urls, log=notes.append), tmp_path / "store", batch_size=16) as encoder:
        encoded = encoder.encode_images(dataset)
        check(encoder, encoded, undisturbed)
        assert encoded.sent == len(dataset.samples)
        encoder.encode_texts(["until the driver has heard of it"])
    with (
        DistributedEncoder(identity, Servers([wrong.url]), tmp_path / "store") as encoder,
        pytest.raises(SemscaleError, match="no clip-server is left") as caught,
    ):
        encoder.encode_texts(["something new"])
    assert caught.value.where == wrong.url
    assert [line for line in notes if line.startswith(f"{wrong.url} is rejected: ") and found in line], notes


@pytest.mark.faults
def test_an_endpoint_that_comes_back_as_another_model_is_refused_amid_the_run(
    odd_server: Any,
    identity: EncoderIdentity,
    dataset: Dataset,
    undisturbed: EmbeddingStore,
    mini_server: str,
    tmp_path: Path,
) -> None:
    server = odd_server(delay=0.01)
    identify_encoder(Servers([server.url]), "semscale-mini", tmp_path / "store")
    port = int(server.url.rpartition(":")[2])
    after: list[Any] = []

    def replaced(done: int, total: int) -> None:
        if not after:
            server.kill()
            after.append(odd_server(port, answer="other"))
            after[0].wait()

    with (
        DistributedEncoder(identity, Servers([server.url]), tmp_path / "store", batch_size=16) as encoder,
        pytest.raises(SemscaleError, match="no clip-server is left"),
    ):
        encoder.encode_images(dataset, replaced)
    with DistributedEncoder(identity, Servers([server.url, mini_server]), tmp_path / "store", batch_size=16) as encoder:
        check(encoder, encoder.encode_images(dataset), undisturbed)


@pytest.mark.faults
def test_load_follows_speed(
    odd_server: Any,
    identity: EncoderIdentity,
    dataset: Dataset,
    undisturbed: EmbeddingStore,
    tmp_path: Path,
) -> None:
    counts = [tmp_path / "fast", tmp_path / "slow"]
    fast, slow = (odd_server(delay=delay, count=str(count)) for delay, count in zip((0.002, 0.1), counts, strict=True))
    identify_encoder(Servers([fast.url, slow.url]), "semscale-mini", tmp_path / "store")
    with DistributedEncoder(identity, Servers([fast.url, slow.url]), tmp_path / "store", batch_size=8) as encoder:
        check(encoder, encoder.encode_images(dataset), undisturbed)
    many, few = (sum(map(int, count.read_text().split())) for count in counts)
    # each actor of the slow one holds two chunks from the start: 128 of the 600 pictures
    assert many > 1.5 * few, (many, few)
