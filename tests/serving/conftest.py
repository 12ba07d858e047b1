"""Fixtures: a CLIP of two layers with random weights in several checkpoint formats, and images."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

TINY = {
    "embed_dim": 48,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
PREPROCESS = {"mean": [0.5, 0.4, 0.3], "std": [0.25, 0.5, 0.75], "interpolation": "bicubic", "resize_mode": "shortest"}


@pytest.fixture(scope="session")
def tiny_state() -> dict[str, Any]:
    """The state dict of the tiny model."""
    import torch
    from open_clip import CLIP

    torch.manual_seed(0)
    state: dict[str, Any] = CLIP(**TINY).state_dict()
    return state


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, tiny_state: dict[str, Any]) -> Path:
    """A model directory as open_clip writes it."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": PREPROCESS}))
    save_file(tiny_state, str(folder / "open_clip_model.safetensors"))
    return folder


@pytest.fixture(scope="session")
def tiny_architecture(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of the tiny architecture in open_clip's registry of this process."""
    import open_clip

    path = tmp_path_factory.mktemp("configs") / "tiny-for-tests.json"
    path.write_text(json.dumps(TINY))
    open_clip.add_model_config(path)
    return path.stem


@pytest.fixture(scope="session")
def make_image() -> Callable[..., bytes]:
    """Make an image file of seeded noise: `make_image(seed, size=(40, 30), mode="RGB", kind="PNG")`."""

    def make(seed: int, size: tuple[int, int] = (40, 30), mode: str = "RGB", kind: str = "PNG") -> bytes:
        noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noise).convert(mode).save(buffer, kind)
        return buffer.getvalue()

    return make
