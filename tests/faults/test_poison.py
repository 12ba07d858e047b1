"""A picture that ends the model process: found, given up with its reason, and nothing else is lost."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semscale.datasets.registry import load_dataset
from semscale.encoding.distributed import DistributedEncoder
from semscale.encoding.servers import Servers
from semscale.encoding.store import EmbeddingStore
from semscale.encoding.verification import identify_encoder

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
