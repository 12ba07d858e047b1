"""Distributed encoder with a real clip-server: the embeddings of the in-process model, each sent once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from semscale.common.errors import SemscaleError
from semscale.datasets.dataset import Dataset
from semscale.datasets.image_decoding import decode
from semscale.datasets.loader_registry import load_dataset
from semscale.datasets.samples import Sample, SampleTable
from semscale.encoding.client import EncodeClient, Encoded
from semscale.encoding.distributed_encoder import DistributedEncoder
from semscale.encoding.server_discovery import Servers
from semscale.encoding.verification import identify_encoder

# tests that count what is sent use separate images and texts: all share the store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def encoder(mini_server: str, store: Path, ray_session: None) -> Iterator[DistributedEncoder]:
    servers = Servers([mini_server])
    identity = identify_encoder(servers, "semscale-mini", store)
    with DistributedEncoder(identity, servers, store, actors=2, batch_size=16) as made:
        yield made


def in_process(dataset: Dataset, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    from semscale.models.bundled_model import load_mini

    model, preprocess, tokenizer = load_mini()
    pictures = [preprocess(decode(dataset.reader.read(sample.file))) for sample in dataset.samples]
    with torch.inference_mode():
        images = model.encode_image(torch.stack(pictures), normalize=True).numpy()
        words = model.encode_text(tokenizer(texts), normalize=True).numpy()
    return images, words


def test_embeddings_equal_open_clip_in_this_process(encoder: DistributedEncoder) -> None:
    dataset = load_dataset("shapes", limit=40)
    texts = ["a round thing", "Large cross", "a photo of a seven", "ünïcode ☂"]
    encoded = encoder.encode_images(dataset)
    assert encoder.encode_texts(texts) == len(texts)
    assert encoded.positions.tolist() == list(range(40))
    images, words = in_process(dataset, texts)
    assert np.abs(encoder.image_embeddings(encoded.keys) - images).max() < 1e-5
    assert np.abs(encoder.text_embeddings(texts) - words).max() < 1e-5
    assert np.allclose(np.linalg.norm(encoder.image_embeddings(encoded.keys), axis=1), 1, atol=1e-6)


def test_large_images_are_resized_as_by_the_server_or_decoded_as_drafts(
    encoder: DistributedEncoder, mini_server: str, store: Path, tmp_path: Path
) -> None:
    noise = np.random.default_rng(5).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    for name, size in (("a/wide.jpg", (1200, 900)), ("b/tall.png", (97, 311))):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(noise).resize(size).save(tmp_path / name)
    dataset = load_dataset(f"folder:{tmp_path}")

    async def whole() -> Encoded:
        return await EncodeClient(mini_server).encode([dataset.reader.read(sample.file) for sample in dataset.samples])

    ours = encoder.image_embeddings(encoder.encode_images(dataset).keys)
    assert np.array_equal(ours, asyncio.run(whole()).embeddings)
    servers = Servers([mini_server])
    identity = identify_encoder(servers, "semscale-mini", store, draft=True)
    with DistributedEncoder(identity, servers, store, actors=1) as drafting:
        encoded = drafting.encode_images(dataset)
        drafts = drafting.image_embeddings(encoded.keys)
    assert encoded.sent == 2
    assert not np.array_equal(drafts[0], ours[0])
    assert (drafts * ours).sum(axis=1).min() > 0.99


def test_servers_are_started_on_demand(encoder: DistributedEncoder, mini_server: str, store: Path) -> None:
    started: list[str] = []

    class Starting(Servers):
        def start(self) -> list[str]:
            if started:
                raise SemscaleError("it does not start")
            started.append(mini_server)
            return [mini_server]

    dataset = load_dataset("shapes", limit=40)
    encoder.encode_images(dataset)
    encoder.encode_texts(["seven"])
    with DistributedEncoder(encoder.identity, Starting(), store, actors=1, batch_size=4) as lazy:
        images = lazy.encode_images(dataset)
        assert (images.sent, lazy.encode_texts(["seven"]), started) == (0, 0, [])
        assert lazy.encode_images(load_dataset("shapes", limit=70)).sent == 30
        assert lazy.encode_texts(["seven", "eight"]) == 1
        assert started == [mini_server]
    with (
        DistributedEncoder(encoder.identity, Starting(), store, actors=1) as lazy,
        pytest.raises(SemscaleError, match="it does not start"),
    ):
        lazy.encode_texts(["nine"])


def test_copies_are_sent_once(encoder: DistributedEncoder) -> None:
    dataset = load_dataset("digits", limit=30)
    copies = [Sample(f"copy/{sample.file}", sample.true_class, sample.file) for sample in dataset.samples]
    table = SampleTable.of(dataset.classes, [*dataset.samples, *copies])
    encoded = encoder.encode_images(Dataset("doubled", "digit", dataset.classes, table, dataset.reader))
    assert (len(encoded.positions), encoded.sent) == (60, 30)
    assert encoder.encode_images(dataset).sent == 0


def test_an_empty_text_is_an_error(encoder: DistributedEncoder) -> None:
    with pytest.raises(SemscaleError, match="category text cannot be encoded"):
        encoder.encode_texts(["cat", "   "])


def test_rank_of_clip_client_gives_the_kernels_labels(encoder: DistributedEncoder, mini_server: str) -> None:
    """The server's /rank, as clip-as-service uses it, equals the fused kernel with `max`."""
    from clip_client import Client
    from docarray import Document, DocumentArray

    from semscale.categories.ladder_builder import LadderSpec, build_ladder
    from semscale.scoring.kernel import LadderInputs, score_ladder

    dataset = load_dataset("shapes", limit=40)
    ladder = build_ladder(LadderSpec("shapes", dataset.classes, dataset.domain, "templates", steps=3))
    flat = ladder.flatten()
    encoded = encoder.encode_images(dataset)
    encoder.encode_texts(flat.texts)
    embeddings = encoder.image_embeddings(encoded.keys), encoder.text_embeddings(flat.texts)
    scores = score_ladder(LadderInputs(*embeddings, flat.class_index, flat.step_ends, np.zeros(40, dtype=np.int32)))
    client = Client(mini_server)
    for k in (0, 2):
        texts = flat.texts[: flat.step_ends[k]]
        documents = DocumentArray(
            Document(
                id=str(i),
                blob=dataset.reader.read(sample.file),
                matches=DocumentArray([Document(text=text) for text in texts]),
            )
            for i, sample in enumerate(dataset.samples)
        )
        ranked = client.rank(documents)
        labels = [ranked[str(i)].matches[0].text for i in range(40)]
        assert labels == [flat.texts[index] for index in scores.predicted_category[:, k]]
