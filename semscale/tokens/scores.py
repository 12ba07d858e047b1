"""Scores of tokens: which ones a strategy keeps, by attention, by content, by position, or at random.

Ties go to the earlier token, and chosen tokens stay in their order.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from semscale.tokens.batch import TokenBatch
from semscale.tokens.tower import Tower

BY_ATTENTION = ("attn", "lowest")
BY_POSITION = ("mask", "random", "radial", "centre")


def token_scores(batch: TokenBatch, kind: str, number: int, tokens: Tensor) -> Tensor:
    """Return scores of the patches by what enters a block, float32 [B, n].

    Args:
        batch: the images.
        kind: `attn` (attention received), `lowest` (its negative), `meancos` (cosine to the mean token) or `norm`.
        number: the block.
        tokens: [B, P + n, C].
    """
    patches = tokens[:, batch.tower.prefix :].float()
    if kind == "norm":
        return cast("Tensor", torch.linalg.vector_norm(patches, dim=-1))
    if kind == "meancos":
        return functional.cosine_similarity(patches, patches.mean(1, keepdim=True), dim=-1)
    attention = batch.tower.attention_received(number, tokens)
    return -attention if kind == "lowest" else attention


def last_layers(tower: Tower) -> frozenset[int]:
    """Return the blocks whose unmodified inputs :func:`final_scores` needs."""
    return frozenset({tower.depth - 1, tower.depth} if tower.latent_pool else {tower.depth - 1})


def final_scores(batch: TokenBatch, kind: str) -> Tensor:
    """Return scores of all patches after a whole pass of the unmodified tower, float32 [B, N].

    Attention is that of the last block, or of the pool's own probe where there is one; content what enters that block.
    """

    def attention() -> Tensor:
        tower = batch.tower
        if tower.latent_pool:
            return tower.probe_attention(batch.hidden(tower.depth))
        return tower.attention_received(tower.depth - 1, batch.hidden(tower.depth - 1))

    if kind in BY_ATTENTION:
        scores = batch.remember("final attention", attention)
        return -scores if kind == "lowest" else scores
    return token_scores(batch, kind, batch.tower.depth - 1, batch.hidden(batch.tower.depth - 1))


def position_scores(batch: TokenBatch, kind: str, seed: int = 0) -> Tensor:
    """Return scores of all patches that do not look at tokens, float32 [B, N].

    `random` draws from the image's pixels and the seed, so that sets of different size are nested; `radial` and
    `centre` prefer the middle of the picture (Haurum et al., arXiv 2308.04657); `mask` what a given mask covers.
    """
    tower = batch.tower
    if kind == "mask":
        return batch.object_share()
    if kind == "random":
        order = batch.remember(("random", seed), lambda: batch.shuffles("tokens", seed, tower.patches))
        ranks = torch.arange(tower.patches, device=order.device, dtype=torch.float32).expand_as(order)
        return torch.empty_like(ranks).scatter_(1, order, -ranks)
    rows, columns = (torch.arange(size, device=batch.pixels.device) - (size - 1) / 2 for size in tower.grid)
    nearness = -(rows.square()[:, None] + columns.square()[None]).flatten()
    return cast("Tensor", nearness.expand(len(batch), -1))


def highest(scores: Tensor, count: int) -> Tensor:
    """Return the positions of the highest scores, rising, int64 [B, count]; ties to the earlier position.

    >>> highest(torch.tensor([[1.0, 3.0, 3.0, 3.0]]), 2)
    tensor([[1, 2]])
    """
    return scores.argsort(dim=1, descending=True, stable=True)[:, :count].sort(1).values


def evenly(batch: TokenBatch, length: int, count: int) -> Tensor:
    """Return `count` of `length` positions at equal distances, int64 [B, count]."""
    positions = (2 * torch.arange(count, device=batch.pixels.device) + 1) * length // (2 * count)
    return positions.expand(len(batch), -1)


def take(values: Tensor, positions: Tensor) -> Tensor:
    """Return the tokens at these positions, [B, k, C] of [B, n, C]."""
    return values.gather(1, positions[..., None].expand(-1, -1, values.shape[-1]))


def as_mask(positions: Tensor, length: int) -> Tensor:
    """Return positions as bool [B, length]; negative positions, which stand for no patch, are left out."""
    marks = torch.zeros(len(positions), length + 1, dtype=torch.bool, device=positions.device)
    marks.scatter_(1, positions.where(positions >= 0, length), True)
    return marks[:, :length]
