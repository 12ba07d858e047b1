"""Training batches: images from pools drawn once, the captions written for them, and the names of all classes."""

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
from semscale.training.captions import CLASSES, Offer, offer_names, truth_table, write_caption

Tokenize = Callable[[list[str]], torch.Tensor]
_LARGEST_SHIFT = 3  # pixels


@dataclass(frozen=True)
class Pool:
    """Training images of one dataset at the size of the tower's input, and what is true of each."""

    images: torch.Tensor  # (n, 3, IMAGE_SIZE, IMAGE_SIZE) uint8 colour values
    truths: list[GroundTruth]
    turnable: bool  # whether an image means the same when it is mirrored or turned by 90 degrees


@lru_cache(maxsize=2)
def draw_pool(name: str, n: int) -> Pool:
    """Draw n images from the training half of "digits" or "shapes", every source in many scenes."""
    images = np.empty((n, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    truths: list[GroundTruth] = []
    sources = len(digits.split_indices("train")) if name == "digits" else n
    for i in range(n):
        pixels, truth = render(name, "train", i % sources, i // sources)
        images[i] = shrink(pixels)
        truths.append(truth)
    return Pool(torch.from_numpy(images).permute(0, 3, 1, 2), truths, turnable=name == "shapes")


def shrink(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Resize an image as open_clip's preprocessing of the bundled model does (bicubic, antialiased)."""
    return np.asarray(Image.fromarray(pixels).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC))


def take(pool: Pool, n: int, rng: np.random.Generator) -> tuple[torch.Tensor, list[GroundTruth]]:
    """Return n images of a pool, shifted by a few pixels and, where that is allowed, mirrored and turned."""
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


@dataclass(frozen=True)
class Batch:
    """n images, c captions written for them, and further texts that only name a class."""

    images: torch.Tensor  # (n, 3, height, width) uint8
    tokens: torch.Tensor  # (texts, 77) token numbers; the first c texts are the captions, each once
    true: torch.Tensor  # (n, c) whether a caption is true of an image
    own: torch.Tensor  # (n,) the caption that was written for an image
    names: torch.Tensor  # (n, classes) which texts are offered as the names of the classes for an image
    shown: torch.Tensor  # (n,) the class of an image, as a column of names


@dataclass
class Batcher:
    """Draws batches from pools, an equal part from each, and remembers which tokens have occurred.

    `offer` writes the names of all classes for a batch.
    """

    pools: list[Pool]
    tokenize: Tokenize
    rng: np.random.Generator
    offer: Callable[[np.random.Generator], Offer] = offer_names
    _tokens: dict[str, torch.Tensor] = field(default_factory=dict)

    def draw(self, n: int) -> Batch:
        """Return a batch of n images, or fewer where the pools do not divide n."""
        parts = [take(pool, n // len(self.pools), self.rng) for pool in self.pools]
        truths = [truth for _, some in parts for truth in some]
        written = [write_caption(truth, self.rng) for truth in truths]
        claims = dict(written)  # a text claims the same wherever it is written
        column = {text: i for i, text in enumerate(claims)}
        offered = self.offer(self.rng)
        names = dict.fromkeys(text for texts in offered.values() for text in texts)
        place = {text: len(claims) + i for i, text in enumerate(names)}
        return Batch(
            images=torch.cat([images for images, _ in parts]),
            tokens=torch.stack([self._tokenized(text) for text in (*claims, *names)]),
            true=torch.from_numpy(truth_table(list(claims.values()), truths)),
            own=torch.tensor([column[text] for text, _ in written]),
            names=torch.tensor([[place[text] for text in offered[truth.size, truth.count > 1]] for truth in truths]),
            shown=torch.tensor([CLASSES.index(truth.class_name) for truth in truths]),
        )

    def used_tokens(self) -> list[int]:
        """Return the numbers of all tokens that have occurred so far, sorted."""
        return sorted({number for row in self._tokens.values() for number in row.tolist()})

    def _tokenized(self, text: str) -> torch.Tensor:
        if text not in self._tokens:
            self._tokens[text] = self.tokenize([text])[0]
        return self._tokens[text]
