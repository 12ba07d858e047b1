"""Packed requests: the same bits as picture by picture, and nothing lost where a server cannot take them."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing

import numpy as np
import pytest

from semscale.datasets.image_decoding import decode
from semscale.datasets.registry import load_dataset
from semscale.encoding.client import EncodeClient, Encoded, ServerUnavailableError
from semscale.encoding.image_pipeline import Picture, prepare, to_ppm


def pictures(n: int, side: int = 40) -> list[Picture]:
    dataset = load_dataset("shapes", limit=n)
    spec = {"size": side, "interpolation": "bicubic"}
    return [prepare(decode(dataset.reader.read(sample.file)), spec) for sample in dataset.samples]


def encode(url: str, contents: list[Picture] | list[bytes], **options: int) -> Encoded:
    async def call() -> Encoded:
        return await EncodeClient(url, **options).encode(contents)

    return asyncio.run(call())


@pytest.mark.parametrize("batch_size", [None, 7, 50])
def test_packed_pictures_get_the_bits_that_single_ones_get(mini_server: str, batch_size: int | None) -> None:
    packed = encode(mini_server, pictures(50), **({"batch_size": batch_size} if batch_size else {}))
    single = encode(mini_server, [to_ppm(picture) for picture in pictures(50)])
    assert packed.reasons == [None] * 50
    assert packed.sent == 50
    assert np.array_equal(packed.embeddings, single.embeddings)


def test_what_a_packed_request_does_not_bring_home_is_sent_picture_by_picture(mini_server: str) -> None:
    # pictures of another size: the server refuses the packed request and resizes the single pictures
    packed = encode(mini_server, pictures(20, side=48))
    single = encode(mini_server, [to_ppm(picture) for picture in pictures(20, side=48)])
    assert packed.sent == 40
    assert np.array_equal(packed.embeddings, single.embeddings)


def test_a_hung_server_is_given_up_with_packed_pictures_too() -> None:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with pytest.raises(ServerUnavailableError, match="no answer"):
            encode(f"grpc://127.0.0.1:{listener.getsockname()[1]}", pictures(3), deadline=1)
