"""Transforms of images: open_clip's own steps, with the arithmetic done once per batch."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import Normalize

# Resizing the shorter edge to the model's size makes a very long image enormous: 1 x 50,000 pixels would need 7.5 GB.
MAX_RESIZED_PIXELS = 32_000_000


class PixelReader:
    """Decodes and resizes images exactly as open_clip's inference transform, but keeps them as bytes.

    That transform ends in ToTensor and Normalize, both elementwise: done for a whole batch they give the same bits,
    cost less per image, and a GPU receives a quarter of the bytes. `size` is (height, width) of the result in pixels.
    """

    def __init__(self, preprocess: Any, size: tuple[int, int]) -> None:
        *geometry, to_tensor, normalize = preprocess.transforms
        if not type(to_tensor).__name__.endswith("ToTensor") or not isinstance(normalize, Normalize):
            raise TypeError(f"Expected a transform that ends in ToTensor, Normalize, but got {preprocess}")
        self._geometry: list[Callable[[Image.Image], Image.Image]] = geometry
        self._mean = torch.as_tensor(normalize.mean, dtype=torch.float32).view(1, 3, 1, 1)
        self._std = torch.as_tensor(normalize.std, dtype=torch.float32).view(1, 3, 1, 1)
        self.size = size

    def decode(self, blob: bytes) -> NDArray[np.uint8]:
        """Decode an image file and return its pixels, uint8 (height, width, 3).

        Raises:
            ValueError: not an image, damaged, or too large (Pillow's limit against decompression bombs, and
                `MAX_RESIZED_PIXELS` after resizing).
        """
        try:
            with Image.open(io.BytesIO(blob)) as image:
                return self.resize(image)
        except ValueError:
            raise
        except Exception as error:  # Pillow's plugins raise whatever a damaged file makes them stumble over.
            reason = re.sub(r" ?<_io.BytesIO object at 0x[0-9a-f]+>", "", f"{type(error).__name__}: {error}")
            raise ValueError(reason) from error

    def resize(self, image: Image.Image) -> NDArray[np.uint8]:
        """Resize, crop and convert an open image to uint8 (height, width, 3)."""
        height, width = self.size
        longer, shorter = max(image.size), min(image.size)
        if height * width * longer > MAX_RESIZED_PIXELS * shorter:
            raise ValueError(f"an image of {image.size[0]} x {image.size[1]} pixels is too long to be resized")
        for step in self._geometry:
            image = step(image)
        return np.asarray(image, dtype=np.uint8)

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Turn uint8 (n, height, width, 3) into float32 (n, 3, height, width): (x / 255 - mean) / std."""
        mean, std = self._mean.to(pixels.device), self._std.to(pixels.device)
        planes = pixels.permute(0, 3, 1, 2).contiguous().to(torch.float32)
        return planes.div_(255).sub_(mean).div_(std)
