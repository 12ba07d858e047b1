from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from docarray import Document, DocumentArray

from semscale.common.text import MAX_TEXT_CHARACTERS
from semscale.serving.executor import RejectedDocumentsError, SemscaleEncoder
from semscale.serving.server_config import ServeConfig

MakeImage = Callable[..., bytes]


@pytest.fixture(scope="module")
def encoder(tiny_model: Path) -> Iterator[SemscaleEncoder]:
    executor = SemscaleEncoder(ServeConfig(str(tiny_model), minibatch_size=4, num_threads=1))
    yield executor
    executor.close()


def encode(encoder: SemscaleEncoder, docs: list[Document], **parameters: Any) -> DocumentArray:
    return asyncio.run(encoder.encode(DocumentArray(docs), parameters=parameters))


def images(make_image: MakeImage, count: int) -> list[Document]:
    return [Document(id=f"image-{seed}", blob=make_image(seed, (30 + seed, 40))) for seed in range(count)]


def test_embeddings_are_float32_and_not_normalised(encoder: SemscaleEncoder, make_image: MakeImage) -> None:
    docs = encode(encoder, [*images(make_image, 3), Document(text="a dog")])
    assert docs.embeddings.shape == (4, 48)
    assert docs.embeddings.dtype == np.float32
    assert np.abs(np.linalg.norm(docs.embeddings, axis=1) - 1).min() > 1e-3


@pytest.mark.parametrize("threads", [1, 2])
def test_neighbours_position_and_request_size_change_no_bit(
    encoder: SemscaleEncoder, make_image: MakeImage, threads: int
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        together = encode(encoder, images(make_image, 11)).embeddings
        backwards = encode(encoder, images(make_image, 11)[::-1]).embeddings[::-1]
        alone = np.stack([encode(encoder, [doc]).embeddings[0] for doc in images(make_image, 11)])
        texts = [f"{count} dogs" for count in range(9)]
        texts_together = encode(encoder, [Document(text=text) for text in texts]).embeddings
        texts_alone = np.stack([encode(encoder, [Document(text=text)]).embeddings[0] for text in texts])
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(together, backwards)
    assert np.array_equal(together, alone)
    assert np.array_equal(texts_together, texts_alone)


def test_repeated_texts_are_encoded_once_and_returned_in_order(encoder: SemscaleEncoder) -> None:
    words = ["cat", "dog", "cat", "cat", "bird", "dog"]
    rows = encode(encoder, [Document(text=word) for word in words]).embeddings
    single = {word: encode(encoder, [Document(text=word)]).embeddings[0] for word in set(words)}
    assert np.array_equal(rows, np.stack([single[word] for word in words]))
    assert len({row.tobytes() for row in rows}) == 3


def test_every_unusable_document_is_named_with_its_reason(encoder: SemscaleEncoder, make_image: MakeImage) -> None:
    docs = [
        Document(id="good", blob=make_image(1)),
        Document(id="noise", blob=b"not an image"),
        Document(id="half", blob=make_image(2, (200, 200))[:400]),
        Document(id="address", uri="file:///etc/hostname"),
        Document(id="cube", tensor=np.zeros((2, 3, 4, 5), dtype=np.uint8)),
    ]
    with pytest.raises(RejectedDocumentsError, match="4 of 5 documents") as caught:
        encode(encoder, docs)
    reasons = json.loads(caught.value.args[1])
    assert set(reasons) == {"noise", "half", "address", "cube"}
    assert "send the bytes" in reasons["address"]
    assert all(doc.embedding is None for doc in docs)


def test_image_content_is_dropped_only_on_request(encoder: SemscaleEncoder, make_image: MakeImage) -> None:
    assert encode(encoder, images(make_image, 1))[0].blob == make_image(0, (30, 40))
    assert not encode(encoder, images(make_image, 1), drop_image_content=True)[0].blob


def test_pixels_may_be_sent_as_a_tensor(encoder: SemscaleEncoder) -> None:
    import io

    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    docs = encode(encoder, [Document(tensor=pixels), Document(blob=buffer.getvalue())])
    assert np.array_equal(docs.embeddings[0], docs.embeddings[1])
    grey, coloured = pixels[..., :1], pixels[..., :1].repeat(3, axis=2)
    docs = encode(encoder, [Document(tensor=grey), Document(tensor=coloured), Document(tensor=grey[..., 0])])
    assert np.array_equal(docs.embeddings[[0, 2]], docs.embeddings[[1, 1]])


@pytest.mark.parametrize("name", ["access_paths", "traversal_paths"])
@pytest.mark.parametrize(("paths", "found"), [("@c", [False, True]), ("@r,c", [True, True]), ("@ r", [True, False])])
def test_access_paths_reach_chunks(encoder: SemscaleEncoder, name: str, paths: str, found: list[bool]) -> None:
    docs = encode(encoder, [Document(text="pets", chunks=[Document(text="cat")])], **{name: paths})
    assert [docs[0].embedding is not None, docs[0].chunks[0].embedding is not None] == found


@pytest.mark.parametrize("paths", ["@" + "r" * 60_000, "@r[0:1]", "@.[text]", "@", "r", "@r,,c", 3.0, ["@r"]])
def test_other_access_paths_are_refused(encoder: SemscaleEncoder, paths: Any) -> None:
    with pytest.raises(ValueError, match="access_paths is not @r"):
        encode(encoder, [Document(text="cat")], access_paths=paths)


def test_texts_are_truncated_and_empty_documents_unchanged(encoder: SemscaleEncoder) -> None:
    book = "word " * MAX_TEXT_CHARACTERS
    docs = encode(encoder, [Document(text=book), Document(text=book[:5000]), Document(text=" \n"), Document()])
    assert [doc.embedding is not None for doc in docs] == [True, True, True, False]
    assert np.array_equal(docs[0].embedding, docs[1].embedding)


def test_more_images_than_are_decoded_at_a_time(encoder: SemscaleEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semscale.serving.executor._DECODE_BATCH", 2)
    noise = np.random.default_rng(0).integers(0, 256, (5, 40, 30, 3), dtype=np.uint8)
    together = encode(encoder, [Document(tensor=pixels) for pixels in noise]).embeddings
    assert np.array_equal(together, [encode(encoder, [Document(tensor=one)]).embeddings[0] for one in noise])


def test_info_is_json_that_names_the_weights(encoder: SemscaleEncoder, tiny_state: dict[str, Any]) -> None:
    from semscale.models.loading import hash_weights

    (answer,) = encoder.info(DocumentArray([Document(id="ping")]))
    info = json.loads(answer.tags["semscale_info"])
    assert answer.id == "ping"
    assert info["weights_sha256"] == hash_weights(tiny_state)
    assert info["preprocess"]["size"] == [32, 32]
    assert info["minibatch_size"] == 4
    assert info["versions"]["torch"] == torch.__version__.split("+")[0]


def test_values_that_are_not_finite_are_an_error(encoder: SemscaleEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder.encoder, "encode_texts", lambda texts: np.full((len(texts), 48), np.nan, np.float32))
    with pytest.raises(ArithmeticError, match="not finite"):
        encode(encoder, [Document(text="cat")])


def test_packed_images_get_the_same_bits_as_documents(encoder: SemscaleEncoder, make_image: MakeImage) -> None:
    docs = images(make_image, 11)
    pixels = np.stack([encoder.encoder.transform.decode(doc.blob) for doc in docs])
    packed = asyncio.run(
        encoder.encode_packed(DocumentArray([Document(tensor=pixels[:7]), Document(tensor=pixels[7:])]))
    )
    assert [doc.embedding.shape for doc in packed] == [(7, 48), (4, 48)]
    assert all(doc.tensor is None for doc in packed)  # the answer does not contain the images
    assert np.array_equal(np.concatenate([doc.embedding for doc in packed]), encode(encoder, docs).embeddings)


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (None, "a tensor of nothing instead of uint8"),
        (np.zeros((2, 9, 9, 3), dtype=np.uint8), r"\(2, 9, 9, 3\) instead of uint8 \(n,"),
        (np.zeros((2, 32, 32, 3), dtype=np.float32), "a tensor of float32"),
        (np.zeros((0, 32, 32, 3), dtype=np.uint8), r"\(0, 32, 32, 3\)"),
    ],
)
def test_documents_that_are_not_packed_are_refused_by_name(encoder: SemscaleEncoder, tensor: Any, reason: str) -> None:
    with pytest.raises(RejectedDocumentsError, match=reason) as caught:
        asyncio.run(encoder.encode_packed(DocumentArray([Document(id="odd", tensor=tensor)])))
    assert list(json.loads(caught.value.args[1])) == ["odd"]
