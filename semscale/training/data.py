"""The pool of training images, drawn once, and the batches taken from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from semscale.models.mini import IMAGE_SIZE
from semscale.synthetic import digits
from semscale.synthetic.images import render
from semscale.synthetic.scene import Truth

_LARGEST_SHIFT = 3  # pixels


@dataclass(frozen=True)
class Pool:
    """Training images of one dataset at the size of the tower's input.

    Attributes:
        images: (n, 3, IMAGE_SIZE, IMAGE_SIZE) uint8 colour values.
        truths: what is true of each.
        turnable: whether an image means the same when it is mirrored or turned by 90 degrees.
    """

    images: torch.Tensor
    truths: list[Truth]
    turnable: bool


@lru_cache(maxsize=2)
def draw_pool(name: str, n: int) -> Pool:
    """Draw n images from the training half of a bundled dataset, every source in many scenes.

    Args:
        name: "digits" or "shapes".
        n: number of images.
    """
    images = np.empty((n, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    truths: list[Truth] = []
    sources = len(digits.split_indices("train")) if name == "digits" else n
    for i in range(n):
        pixels, truth = render(name, "train", i % sources, i // sources)
        images[i] = shrink(pixels)
        truths.append(truth)
    return Pool(torch.from_numpy(images).permute(0, 3, 1, 2), truths, turnable=name == "shapes")


def shrink(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Resize an image as open_clip's preprocessing of the bundled model does (bicubic, antialiased)."""
    return np.asarray(Image.fromarray(pixels).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC))


def take(pool: Pool, n: int, rng: np.random.Generator) -> tuple[torch.Tensor, list[Truth]]:
    """Return n images of a pool, shifted by a few pixels and, where that is allowed, mirrored and turned.

    Returns:
        (n, 3, IMAGE_SIZE, IMAGE_SIZE) uint8, and what is true of each.
    """
    rows = rng.integers(len(pool.truths), size=n)
    images = pool.images[torch.from_numpy(rows)]
    margin = _LARGEST_SHIFT
    padded = torch.nn.functional.pad(images.float(), (margin,) * 4, mode="replicate").to(torch.uint8)
    shifts = rng.integers(2 * margin + 1, size=(n, 2))
    images = torch.stack(
        [p[:, y : y + IMAGE_SIZE, x : x + IMAGE_SIZE] for p, (y, x) in zip(padded, shifts.tolist(), strict=True)]
    )
    if pool.turnable:
        images = torch.rot90(images, int(rng.integers(4)), (2, 3))
        if rng.uniform() < 0.5:
            images = images.flip(3)
    return images, [pool.truths[row] for row in rows.tolist()]


def normalise(images: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """Scale uint8 colour values as torchvision's ToTensor and Normalize do, channels last in memory."""
    centre, spread = torch.tensor(mean).view(1, 3, 1, 1), torch.tensor(std).view(1, 3, 1, 1)
    return ((images.float() / 255 - centre) / spread).contiguous(memory_format=torch.channels_last)
