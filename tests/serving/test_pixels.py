from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from semscale.models.model_encoder import PixelTransform

CASES = [
    ((40, 30), "RGB", "PNG"),
    ((32, 32), "RGB", "PNG"),
    ((500, 333), "RGB", "JPEG"),
    ((40, 30), "L", "PNG"),
    ((40, 30), "P", "PNG"),
    ((40, 30), "RGBA", "PNG"),
    ((40, 30), "CMYK", "JPEG"),
    ((40, 30), "1", "PNG"),
    ((7, 5), "RGB", "PNG"),
]


@pytest.mark.parametrize("resize_mode", ["shortest", "squash", "longest"])
def test_pixels_are_open_clips_own_to_the_last_bit(resize_mode: str, make_image: Callable[..., bytes]) -> None:
    transform = image_transform_v2(PreprocessCfg(size=32, resize_mode=resize_mode), is_train=False)
    reader = PixelTransform(transform, (32, 32))
    for seed, (size, mode, kind) in enumerate(CASES):
        blob = make_image(seed, size, mode, kind)
        expected = transform(Image.open(io.BytesIO(blob)))
        pixels = torch.from_numpy(np.stack([reader.decode(blob)]))
        assert torch.equal(reader.normalise(pixels)[0], expected), (size, mode, kind)


@pytest.fixture
def reader() -> PixelTransform:
    return PixelTransform(image_transform_v2(PreprocessCfg(size=32), is_train=False), (32, 32))


def test_damaged_images_are_refused(reader: PixelTransform, make_image: Callable[..., bytes]) -> None:
    whole = make_image(0, (300, 300))
    for blob in (b"", b"no image", whole[:50], whole[: len(whole) // 2], make_image(0, kind="JPEG")[:100]):
        with pytest.raises(ValueError, match=r".") as caught:
            reader.decode(blob)
        assert " at 0x" not in str(caught.value)


def test_decompression_bomb_is_refused(reader: PixelTransform, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    assert len(buffer.getvalue()) < 100_000
    with pytest.raises(ValueError, match="DecompressionBombError"):
        reader.decode(buffer.getvalue())


def test_very_long_image_is_refused_before_it_fills_the_memory(reader: PixelTransform) -> None:
    buffer = io.BytesIO()
    Image.new("L", (60_000, 1)).save(buffer, "PNG")
    with pytest.raises(ValueError, match="too long"):
        reader.decode(buffer.getvalue())


def test_transform_of_another_form_is_a_programming_error() -> None:
    transform = image_transform_v2(PreprocessCfg(size=32), is_train=True)
    with pytest.raises(TypeError, match="ToTensor, Normalize"):
        PixelTransform(type(transform)(transform.transforms[:-1]), (32, 32))
