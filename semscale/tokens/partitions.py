"""Partitions: tokens pooled over regions of the picture, weighted by area, with attention in proportion to size.

A region's token is the mean of the patch tokens, each weighted by the share of its cell that lies in the region; from
there on the logarithm of a region's size in cells is added to the logits of its key, as for merged tokens (ToMe, arXiv
2210.09461, section 3). The pool gets every patch the weighted sum of the tokens of its regions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from semscale.tokens.batch import Outcome, TokenBatch
from semscale.tokens.products import product
from semscale.tokens.setting import TokenSetting


def overlap(labels: Tensor, regions: int, grid: tuple[int, int]) -> Tensor:
    """Return how much of each patch's cell lies in each region, float32 [B, S, N].

    Columns add up to 1, rows to the size of the region in cells.

    Args:
        labels: int [B, H, W], 0 to regions - 1; H and W are multiples of the grid's.
        regions: S.
        grid: rows and columns of the patches.

    >>> overlap(torch.tensor([[[0, 0], [0, 1]]]), 2, (1, 1)).tolist()
    [[[0.75], [0.25]]]
    """
    batch, height, width = labels.shape
    rows, columns = grid
    cells = labels.reshape(batch, rows, height // rows, columns, width // columns).transpose(2, 3)
    cells = cells.reshape(batch, rows * columns, -1)
    counts = torch.zeros(batch, rows * columns, regions, device=labels.device)
    counts.scatter_add_(2, cells, torch.ones_like(cells, dtype=torch.float32))
    return counts.transpose(1, 2) / cells.shape[2]


def run_partition(batch: TokenBatch, setting: TokenSetting, weights: Tensor, labels: Tensor | None = None) -> Outcome:
    """Return the features of the images with one token per region from the setting's layer on.

    An image whose regions are its patches, in their order, gets the unmodified tower's own row. Regions without a pixel
    are masked out of the attention.

    Args:
        batch, setting: the images and the level; its option `plain` leaves out proportional attention.
        weights: float32 [B, S, N] of :func:`overlap`.
        labels: the regions, for pictures.
    """
    tower, start = batch.tower, setting.layers[0]
    weights = weights.to(batch.pixels.device)
    owner = weights.argmax(1)
    same = _is_identity(weights)
    if bool(same.all()):
        return Outcome(batch.own_forward(), owner=owner, labels=labels)
    sizes = weights.sum(2)
    tokens = batch.hidden(start)
    patches = product(weights, tokens[:, tower.prefix :]) / sizes.clamp(min=1e-6)[..., None]
    tokens = torch.cat([tokens[:, : tower.prefix], patches.to(tokens.dtype)], 1)
    logits = sizes.log() if not setting.flag("plain") else torch.zeros_like(sizes).masked_fill_(sizes == 0, -torch.inf)
    tokens = tower.run(tokens, start, mask=functional.pad(logits, (tower.prefix, 0))[:, None, None])
    if tower.pools_patches:
        patches = product(weights.transpose(1, 2), tokens[:, tower.prefix :])
        tokens = torch.cat([tokens[:, : tower.prefix], patches.to(tokens.dtype)], 1)
    features = tower.finish(tokens)
    if bool(same.any()):
        features = torch.where(same[:, None], batch.own_forward(), features)
    return Outcome(features, owner=owner, labels=labels)


def _is_identity(weights: Tensor) -> Tensor:
    """Return for which images every region is one patch, in order, bool [B]."""
    batch, regions, patches = weights.shape
    if regions < patches:
        return torch.zeros(batch, dtype=torch.bool, device=weights.device)
    eye = torch.eye(regions, patches, device=weights.device)
    return (weights == eye).flatten(1).all(1)
