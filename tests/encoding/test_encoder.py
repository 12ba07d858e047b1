"""The encoder against a real clip-server: equal to the model in this process, and careful with what goes wrong."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from semscale.datasets.base import Dataset
from semscale.datasets.image_decoding import decode
from semscale.datasets.registry import load_dataset
from semscale.datasets.samples import Sample, SampleTable
from semscale.encoding.client import EncodeClient, ServerUnavailableError
from semscale.encoding.distributed import DistributedEncoder
from semscale.encoding.encoder_fingerprint import EncoderIdentity
from semscale.encoding.servers import Servers
from semscale.encoding.verification import verify_endpoints
from semscale.errors import SemscaleError


@pytest.fixture
def identity(mini_server: str, tmp_path: Path) -> EncoderIdentity:
    return verify_endpoints(Servers([mini_server]), "semscale-mini", tmp_path / "store")


@pytest.fixture
def encoder(
    identity: EncoderIdentity, mini_server: str, tmp_path: Path, ray_session: None
) -> Iterator[DistributedEncoder]:
    with DistributedEncoder(identity, Servers([mini_server]), tmp_path / "store", actors=2, batch_size=16) as made:
        yield made


@pytest.fixture
def hung_server() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"grpc://127.0.0.1:{listener.getsockname()[1]}"


def in_process(dataset: Dataset, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    from semscale.models.mini import load_mini

    model, preprocess, tokenizer = load_mini()
    pictures = [preprocess(decode(dataset.reader.read(sample.file))) for sample in dataset.samples]
    with torch.inference_mode():
        images = model.encode_image(torch.stack(pictures), normalize=True).numpy()
        words = model.encode_text(tokenizer(texts), normalize=True).numpy()
    return images, words


def test_embeddings_equal_open_clip_in_this_process(encoder: DistributedEncoder) -> None:
    dataset = load_dataset("shapes", limit=40)
    texts = ["circle", "Large cross", "a photo of a seven", "ünïcode ☂"]
    encoded = encoder.encode_images(dataset)
    assert encoder.encode_texts(texts) == len(texts)
    assert encoded.positions.tolist() == list(range(40))
    images, words = in_process(dataset, texts)
    assert np.abs(encoder.image_embeddings(encoded.keys) - images).max() < 1e-5
    assert np.abs(encoder.text_embeddings(texts) - words).max() < 1e-5
    assert np.allclose(np.linalg.norm(encoder.image_embeddings(encoded.keys), axis=1), 1, atol=1e-6)


def test_large_photographs_arrive_as_if_the_server_had_resized_them(
    encoder: DistributedEncoder, mini_server: str, tmp_path: Path
) -> None:
    noise = np.random.default_rng(5).integers(0, 256, (300, 420, 3), dtype=np.uint8)
    for name, size in (("a/wide.jpg", (420, 300)), ("b/tall.png", (97, 311))):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(noise).resize(size).save(tmp_path / name)
    dataset = load_dataset(f"folder:{tmp_path}")
    encoded = encoder.encode_images(dataset)
    ours = encoder.image_embeddings(encoded.keys)
    whole = [dataset.reader.read(sample.file) for sample in dataset.samples]
    direct = asyncio.run(_encode(mini_server, whole)).embeddings
    assert np.array_equal(ours, direct)


async def _encode(url: str, contents: list[bytes]):  # type: ignore[no-untyped-def]
    return await EncodeClient(url).encode(contents)


def test_servers_are_asked_for_when_there_is_something_to_send(
    encoder: DistributedEncoder, identity: EncoderIdentity, mini_server: str, tmp_path: Path
) -> None:
    started: list[str] = []

    class Starting(Servers):
        def start(self) -> list[str]:
            started.append(mini_server)
            return [mini_server]

    dataset = load_dataset("digits", limit=30)
    encoder.encode_images(dataset)
    encoder.encode_texts(["seven"])
    with DistributedEncoder(identity, Starting(), tmp_path / "store", batch_size=4) as lazy:
        found = lazy.encode_images(dataset)
        assert (found.sent, lazy.encode_texts(["seven"]), started) == (0, 0, [])
        assert lazy.encode_images(load_dataset("digits", limit=60)).sent == 30
        assert lazy.encode_texts(["seven", "eight"]) == 1
        assert started == [mini_server]


def test_a_server_that_does_not_start_stops_the_encoding(
    identity: EncoderIdentity, tmp_path: Path, ray_session: None
) -> None:
    class Failing(Servers):
        def start(self) -> list[str]:
            raise SemscaleError("it does not start")

    with (
        DistributedEncoder(identity, Failing(), tmp_path / "store") as lazy,
        pytest.raises(SemscaleError, match="it does not start"),
    ):
        lazy.encode_texts(["seven"])


def test_copies_are_sent_once(encoder: DistributedEncoder) -> None:
    dataset = load_dataset("digits", limit=30)
    doubled = Dataset(
        "doubled",
        "digit",
        dataset.classes,
        SampleTable.of(
            dataset.classes,
            [*dataset.samples, *(Sample(f"copy/{s.file}", s.true_class, s.file) for s in dataset.samples)],
        ),
        dataset.reader,
    )
    encoded = encoder.encode_images(doubled)
    assert (len(encoded.positions), encoded.sent) == (60, 30)
    assert encoder.encode_images(dataset).sent == 0


def test_one_bad_document_does_not_cost_the_others(mini_server: str) -> None:
    dataset = load_dataset("digits", limit=20)
    contents = [dataset.reader.read(sample.file) for sample in dataset.samples]
    alone = asyncio.run(_encode(mini_server, contents))
    contents[7] = b"poison"
    encoded = asyncio.run(_encode(mini_server, contents))
    assert [i for i, reason in enumerate(encoded.reasons) if reason] == [7]
    assert "image" in str(encoded.reasons[7])
    assert encoded.sent == 20 + 19  # the server names the culprit, so its neighbours go once more and it does not
    good = [i for i in range(20) if i != 7]
    # other neighbours in the request, the same rows to the last bit
    assert np.array_equal(encoded.embeddings[good], alone.embeddings[good])


def test_empty_text_stops_the_study_with_its_name(encoder: DistributedEncoder) -> None:
    with pytest.raises(SemscaleError, match="category text cannot be encoded"):
        encoder.encode_texts(["cat", "   "])


def test_a_hung_server_is_given_up_at_the_deadline(hung_server: str) -> None:
    client = EncodeClient(hung_server, deadline=1.0)
    with pytest.raises(ServerUnavailableError):
        asyncio.run(client.encode(["cat"]))


def test_nobody_there_is_a_user_error(tmp_path: Path) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"grpc://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SemscaleError, match="no clip-server answers") as caught:
            verify_endpoints(Servers([url], patience=0.5), "semscale-mini", tmp_path)
    assert url in str(caught.value)


def test_identity_comes_from_the_weights(identity: EncoderIdentity) -> None:
    assert identity.info is not None
    assert identity.info["name"] == "semscale-mini"
    assert identity.dimension == identity.info["embedding_dim"]
    assert identity.fingerprint.startswith("semscale-mini-")


def test_drafts_have_a_store_of_their_own(identity: EncoderIdentity, mini_server: str, tmp_path: Path) -> None:
    draft = verify_endpoints(Servers([mini_server]), "semscale-mini", tmp_path / "store", draft=True)
    assert draft.fingerprint != identity.fingerprint
    assert (draft.draft, identity.draft) == (True, False)


def test_large_photographs_can_be_decoded_as_drafts(mini_server: str, tmp_path: Path, ray_session: None) -> None:
    noise = np.random.default_rng(5).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(noise + ord(name)).resize((1200, 900)).save(tmp_path / name / "photograph.jpg")
    dataset = load_dataset(f"folder:{tmp_path}")
    rows = {}
    for draft in (False, True):
        identity = verify_endpoints(Servers([mini_server]), "semscale-mini", tmp_path / "store", draft=draft)
        with DistributedEncoder(identity, Servers([mini_server]), tmp_path / "store", actors=1) as encoder:
            encoded = encoder.encode_images(dataset)
            rows[draft] = encoder.image_embeddings(encoded.keys)
        assert encoded.sent == 2
    assert not np.array_equal(rows[True], rows[False])
    assert (rows[True] * rows[False]).sum(axis=1).min() > 0.99


def test_other_embeddings_under_a_known_name_are_refused(
    identity: EncoderIdentity, mini_server: str, tmp_path: Path
) -> None:
    record = tmp_path / "store" / identity.fingerprint / "encoder.json"
    content = json.loads(record.read_text())
    content["probe"] = (-np.array(content["probe"])).tolist()
    record.write_text(json.dumps(content))
    with pytest.raises(SemscaleError, match="gives other embeddings"):
        verify_endpoints(Servers([mini_server]), "semscale-mini", tmp_path / "store")


def test_rank_of_clip_client_gives_the_kernels_labels(encoder: DistributedEncoder, mini_server: str) -> None:
    """The original tool's way, the server's /rank for every image, against the fused kernel with `max`."""
    from clip_client import Client
    from docarray import Document, DocumentArray

    from semscale.categories.build import LadderSpec, build_ladder
    from semscale.scoring.kernel import LadderInputs, score_ladder

    dataset = load_dataset("digits", limit=50)
    ladder = build_ladder(LadderSpec("digits", dataset.classes, dataset.domain, "templates", steps=3))
    flat = ladder.flatten()
    encoded = encoder.encode_images(dataset)
    encoder.encode_texts(flat.texts)
    embeddings = encoder.image_embeddings(encoded.keys), encoder.text_embeddings(flat.texts)
    scores = score_ladder(LadderInputs(*embeddings, flat.class_index, flat.step_ends, np.zeros(50, dtype=np.int32)))
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
        labels = [ranked[str(i)].matches[0].text for i in range(50)]
        assert labels == [flat.texts[index] for index in scores.predicted_category[:, k]]
