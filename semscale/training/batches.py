"""A training batch: images of both datasets, the captions written for them, and the names of all classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from semscale.training.captions import CLASSES, Offer, offer_names, truth_table, write_caption
from semscale.training.data import Pool, take

Tokenize = Callable[[list[str]], torch.Tensor]


@dataclass(frozen=True)
class Batch:
    """n images, c captions written for them, and further texts that only name a class.

    Attributes:
        images: (n, 3, height, width) uint8.
        tokens: (texts, 77) token numbers; the first c texts are the captions, no text occurs twice among them.
        true: (n, c) whether a caption is true of an image.
        own: (n,) the caption that was written for an image.
        names: (n, classes) which texts are offered as the names of the classes for an image.
        shown: (n,) the class of an image, as a column of names.
    """

    images: torch.Tensor
    tokens: torch.Tensor
    true: torch.Tensor
    own: torch.Tensor
    names: torch.Tensor
    shown: torch.Tensor


@dataclass
class Batcher:
    """Draws batches from pools, an equal part from each, and remembers which tokens have occurred.

    Attributes:
        pools: where images come from.
        tokenize: texts to (n, 77) token numbers.
        rng: the source of every choice.
        offer: writes the names of all classes for a batch.
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
