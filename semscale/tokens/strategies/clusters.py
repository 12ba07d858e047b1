"""Clusters: patches attend only to those of their own cluster and to the prefix tokens.

After semantic equitable clustering (arXiv 2405.13337, section 3), which trains towers so; here nothing is trained. In
every block and head patches are ranked by the cosine of their key to the mean key, and the ranks cut into k parts whose
sizes differ by at most one. Prefix tokens attend to all, and all to them.

Controls: `random` ranks, drawn anew for every block and head as the keys are; `raster`, parts of the reading order;
`interleaved`, every k-th patch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from semscale.tokens.batch import Outcome, TokenBatch
from semscale.tokens.setting import TokenSetting


def run(batch: TokenBatch, setting: TokenSetting) -> Outcome:
    """Return the features of the images with attention cut into clusters from a block on."""
    tower, start, first = batch.tower, setting.layers[0], None
    tokens = batch.hidden(start)
    for number in range(start, tower.depth):
        owner = cluster_numbers(batch, setting, number, tokens)
        first = owner[:, 0] if first is None else first
        tokens = tower.block(number, tokens, cluster_mask(owner, tower.prefix))
    return Outcome(tower.finish(tokens), owner=first)


def cluster_numbers(batch: TokenBatch, setting: TokenSetting, number: int, tokens: Tensor) -> Tensor:
    """Return the cluster of each patch in a block, int64 [B, H or 1, N], from 0 to k - 1."""
    tower, kind, clusters = batch.tower, setting.kind, int(setting.share)
    positions = torch.arange(tower.patches, device=tokens.device)
    if kind == "interleaved":
        return (positions % clusters).expand(len(batch), 1, -1)
    parts = positions * clusters // tower.patches
    if kind == "raster":
        return parts.expand(len(batch), 1, -1)
    if kind == "random":
        draws = [
            batch.shuffles(f"clusters of block {number}, head {head}", setting.seed, tower.patches)
            for head in range(tower.heads)
        ]
        order = torch.stack(draws, 1)
    else:
        keys = tower.keys(number, tokens)[:, :, tower.prefix :]
        order = functional.cosine_similarity(keys, keys.mean(2, keepdim=True), dim=-1).argsort(dim=-1, stable=True)
    return torch.empty_like(order).scatter_(-1, order, parts.expand_as(order))


def cluster_mask(owner: Tensor, prefix: int) -> Tensor:
    """Return the mask of clusters, float32 [B, H or 1, P + N, P + N]: -inf between patches of different ones."""
    apart = functional.pad(owner[..., :, None] != owner[..., None, :], (prefix, 0, prefix, 0))
    return torch.zeros(apart.shape, device=owner.device).masked_fill_(apart, -torch.inf)
