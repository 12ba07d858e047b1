"""Training batches: images from pools rendered once, their captions, and captions that name each class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from semscale.models.bundled_model import IMAGE_SIZE
from semscale.synthetic import digits
from semscale.synthetic.numbered_images import render
from semscale.synthetic.scene import GroundTruth
from semscale.training.captions import CLASSES, ClassCaptions, truth_table, write_caption, write_class_captions

Tokenize = Callable[[list[str]], torch.Tensor]
_LARGEST_SHIFT = 3  # pixels


@dataclass(frozen=True)
class ImagePool:
    """Training images of a dataset at the size of the model's input, and the truth of each."""

    images: torch.Tensor  # (n, 3, IMAGE_SIZE, IMAGE_SIZE) uint8 colour values
    truths: list[GroundTruth]
    turnable: bool  # whether mirroring and turning by 90 degrees keep the meaning


@lru_cache(maxsize=2)
def render_pool(name: str, n: int) -> ImagePool:
    """Render n images from the training half of "digits" or "shapes", every source in many scenes."""
    images = np.empty((n, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    truths: list[GroundTruth] = []
    sources = len(digits.split_indices("train")) if name == "digits" else n
    for i in range(n):
        pixels, truth = render(name, "train", i % sources, i // sources)
        images[i] = shrink(pixels)
        truths.append(truth)
    return ImagePool(torch.from_numpy(images).permute(0, 3, 1, 2), truths, turnable=name == "shapes")


def shrink(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Resize an image as open_clip's preprocessing of the bundled model does (bicubic, antialiased)."""
    return np.asarray(Image.fromarray(pixels).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC))


def sample_images(pool: ImagePool, n: int, rng: np.random.Generator) -> tuple[torch.Tensor, list[GroundTruth]]:
    """Sample n images of a pool, shifted by a few pixels and, where that keeps the meaning, mirrored and turned."""
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
    """Normalise uint8 colour values as torchvision's ToTensor and Normalize do, channels last in memory."""
    centre, spread = torch.tensor(mean).view(1, 3, 1, 1), torch.tensor(std).view(1, 3, 1, 1)
    return ((images.float() / 255 - centre) / spread).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Batch:
    """Batch of n images, c captions written for them, and further texts that only name a class."""

    images: torch.Tensor  # (n, 3, height, width) uint8
    tokens: torch.Tensor  # (texts, 77) token numbers; the first c texts are the captions, each once
    is_true: torch.Tensor  # (n, c) whether a caption is true of an image
    caption: torch.Tensor  # (n,) index of the caption that was written for an image
    class_texts: torch.Tensor  # (n, classes) indices of the texts that name the classes for an image
    class_index: torch.Tensor  # (n,) the class of an image, a column of class_texts


@dataclass
class Batcher:
    """Sampler of batches from pools, an equal part from each, which records the tokens that have occurred.

    `class_captions` writes the captions that name all classes for a batch.
    """

    pools: list[ImagePool]
    tokenize: Tokenize
    rng: np.random.Generator
    class_captions: Callable[[np.random.Generator], ClassCaptions] = write_class_captions
    _tokens: dict[str, torch.Tensor] = field(default_factory=dict)

    def draw(self, n: int) -> Batch:
        """Return a batch of n images, or fewer where the pools do not divide n."""
        parts = [sample_images(pool, n // len(self.pools), self.rng) for pool in self.pools]
        truths = [truth for _, part in parts for truth in part]
        captions = [write_caption(truth, self.rng) for truth in truths]
        assertions = dict(captions)  # equal texts assert the same
        class_captions = self.class_captions(self.rng)
        names = dict.fromkeys(text for texts in class_captions.values() for text in texts)
        caption_index = {text: i for i, text in enumerate(assertions)}
        name_index = {text: len(assertions) + i for i, text in enumerate(names)}
        texts = [class_captions[truth.size, truth.count > 1] for truth in truths]
        return Batch(
            images=torch.cat([images for images, _ in parts]),
            tokens=torch.stack([self._tokenized(text) for text in (*assertions, *names)]),
            is_true=torch.from_numpy(truth_table(list(assertions.values()), truths)),
            caption=torch.tensor([caption_index[text] for text, _ in captions]),
            class_texts=torch.tensor([[name_index[text] for text in row] for row in texts]),
            class_index=torch.tensor([CLASSES.index(truth.class_name) for truth in truths]),
        )

    def used_tokens(self) -> list[int]:
        """Return the sorted numbers of all tokens that have occurred so far."""
        return sorted({number for row in self._tokens.values() for number in row.tolist()})

    def _tokenized(self, text: str) -> torch.Tensor:
        if text not in self._tokens:
            self._tokens[text] = self.tokenize([text])[0]
        return self._tokens[text]
