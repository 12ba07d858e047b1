"""A picture that ends the model process: found, given up with its reason, and nothing else is lost."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semscale.common.errors import SemscaleError
from semscale.datasets.loader_registry import load_dataset
from semscale.encoding.distributed_encoder import DistributedEncoder
from semscale.encoding.server_discovery import Servers
from semscale.encoding.verification import identify_encoder
from semscale.store.embedding_store import EmbeddingStore

GREY = 77


@pytest.mark.faults
@pytest.mark.parametrize("replicas", [1, 2])
def test_poison_is_isolated_and_its_neighbours_are_encoded(
    replicas: int, odd_server: Any, pictures: Path, undisturbed: EmbeddingStore, tmp_path: Path
) -> None:
    log, folder, store = tmp_path / "poison.log", tmp_path / "mixed", tmp_path / "store"
    shutil.copytree(pictures, folder)
    names = ("circle/0123-poison.png", "heart/0444-copy.png")
    for name in names:
        Image.new("RGB", (64, 64), (GREY, GREY, GREY)).save(folder / name)
    dataset = load_dataset(f"folder:{folder}")
    urls = [odd_server(poison=GREY, log=str(log)).url for _ in range(replicas)]
    identity = identify_encoder(Servers(urls), "semscale-mini", store)
    with DistributedEncoder(identity, Servers(urls), store, batch_size=16) as encoder:
        encoded = encoder.encode_images(dataset)
        reason = "the model process ended while it encoded this image"
        assert encoded.quarantine == dict.fromkeys(names, reason)
        assert len(encoded.keys) == 600
        assert np.array_equal(encoder.image_embeddings(encoded.keys), undisturbed.read(encoded.keys))
        sizes = [int(line) for line in log.read_text().split()]
        # neither its copy in another dataset nor another try brings it to the server again
        again = encoder.encode_images(dataset)
        assert (again.sent, again.quarantine) == (0, encoded.quarantine)
    assert [int(line) for line in log.read_text().split()] == sizes
    assert 1 <= sizes.count(1) <= 2, sizes
    # all 16, once more if nobody knows whether they arrived, a part of 4, and twice the image alone
    assert len(sizes) <= 5, sizes


@pytest.mark.faults
@pytest.mark.parametrize(("times", "others"), [(2, 0), (99, 1), (99, 0)])
def test_a_row_that_is_not_finite(
    times: int, others: int, odd_server: Any, mini_server: str, ray_session: None, tmp_path: Path
) -> None:
    """It is asked for again, of another server if there is one, and then stops the encoding."""
    log, store = tmp_path / "log", tmp_path / "store"
    for value in range(GREY - 10, GREY + 10):
        path = tmp_path / "pictures" / ("dark" if value < GREY else "light") / f"{value}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (value, value, value)).save(path)
    dataset = load_dataset(f"folder:{tmp_path / 'pictures'}")
    odd = odd_server(nan=GREY, times=times, log=str(log))
    odd.wait()
    urls = [odd.url, mini_server][: 1 + others]
    identity = identify_encoder(Servers(urls), "semscale-mini", store)
    with DistributedEncoder(identity, Servers(urls), store, batch_size=32) as encoder:
        if times > 2 and not others:
            with pytest.raises(SemscaleError, match="an image has no embedding") as caught:
                encoder.encode_images(dataset)
            assert str(caught.value.where).endswith(f"light/{GREY}.png")
            assert "not finite" in str(caught.value.found)
        else:
            encoded = encoder.encode_images(dataset)
            assert (encoded.quarantine, len(encoded.keys)) == ({}, 20)
    assert len(log.read_text().splitlines()) == (1 if others else 3)
    with DistributedEncoder(identity, Servers([mini_server]), store) as encoder:  # goes on where it stopped
        assert len(encoder.encode_images(dataset).keys) == 20
