"""A compiled model gives the same embeddings but for rounding, and its rows are kept apart from the plain model's."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from semscale.models.loading import load_model
from semscale.models.model_encoder import BatchEncoder
from semscale.store.encoder_fingerprint import fingerprint_of


@pytest.mark.benchmark
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for the CPU needs a C++ compiler")
def test_compiling_changes_nothing_but_last_bits() -> None:
    loaded = load_model("semscale-mini")
    plain, compiled = BatchEncoder(loaded, 4), BatchEncoder(loaded, 4, compiled=True)
    height, width = loaded.info["image_size"]
    pixels = np.random.default_rng(0).integers(0, 256, (10, height, width, 3), np.uint8)
    texts = ["a dog", "two cats", "a large bird"]
    for one, other in (
        (plain.encode_pixels(pixels), compiled.encode_pixels(pixels)),
        (plain.encode_texts(texts), compiled.encode_texts(texts)),
    ):
        assert one.shape == other.shape
        assert np.abs(one - other).max() < 1e-4 * np.abs(one).max()


def test_compiled_rows_are_kept_apart() -> None:
    info = {"architecture": "a", "weights_sha256": "b", "embedding_dim": 2, "dtype": "fp32"}
    plain = fingerprint_of("m", info, 2)
    assert fingerprint_of("m", {**info, "compiled": True}, 2) != plain
    assert fingerprint_of("m", {**info, "compiled": False}, 2) == plain
