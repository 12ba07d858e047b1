"""Merging: in every block some pairs of similar tokens become one, until the share of tokens is left.

Written from the paper (ToMe, arXiv 2210.09461, section 3). Between attention and MLP the patch tokens are
split alternately into two sets; every token of the first looks for the most similar one of the second, by the cosine of
the block's keys averaged over heads; the pairs that are most similar are averaged, weighted by how many patches they
stand for. Attention counts a token as often as it has patches (proportional attention, which `plain` leaves out). The
pool gets every patch its merged token back, so that avg, max and latent pools are weighted too.

`random` merges as many random pairs per block; `pool` averages cells of an even grid before the block, 2 x 2 patches at
a quarter of the tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from semscale.tokens.batch import Outcome, TokenBatch
from semscale.tokens.partitions import overlap, run_partition
from semscale.tokens.products import product
from semscale.tokens.regions import grid_labels
from semscale.tokens.scores import take
from semscale.tokens.setting import TokenSetting
from semscale.tokens.token_counts import kept, merge_schedule


@dataclass(frozen=True)
class Pairing:
    """Pairing of patches for merging, of which the even positions are the first set and the odd ones the
    second.

    Attributes:
        merged: positions in the first set of those that are merged away, int64 [B, r].
        partner: positions in the second set that they are merged into, int64 [B, r].
        single: positions in the first set of the others, rising, int64 [B, u].
    """

    merged: Tensor
    partner: Tensor
    single: Tensor

    def sums(self, values: Tensor) -> Tensor:
        """Return sums over merged tokens, [B, n - r, C] of [B, n, C]: the single ones first, then the second set."""
        first, second = values[:, ::2], values[:, 1::2]
        numbers = torch.arange(second.shape[1], device=values.device)
        # a product and not a scattered sum: its order of summation is fixed on every device
        into = self.partner[:, None] == numbers[:, None]
        return torch.cat([take(first, self.single), second + product(into, take(first, self.merged))], 1)

    def positions(self, length: int) -> Tensor:
        """Return where each of `length` tokens has gone, int64 [B, length]."""
        singles = self.single.shape[1]
        positions = torch.empty(len(self.single), length, dtype=torch.int64, device=self.single.device)
        first = torch.empty_like(positions[:, ::2])
        first.scatter_(1, self.single, torch.arange(singles, device=positions.device).expand_as(self.single))
        first.scatter_(1, self.merged, singles + self.partner)
        positions[:, ::2] = first
        positions[:, 1::2] = singles + torch.arange(length // 2, device=positions.device)
        return positions


def run(batch: TokenBatch, setting: TokenSetting) -> Outcome:
    """Return the features of the images with tokens merged block by block."""
    tower, start = batch.tower, setting.layers[0]
    if setting.kind == "pool":
        labels = grid_labels(kept(setting.share, tower.patches), *tower.grid)
        cells = torch.from_numpy(labels).expand(len(batch), -1, -1)
        return run_partition(batch, setting, overlap(cells, kept(setting.share, tower.patches), tower.grid))
    tokens, owner = batch.hidden(start), None
    sizes = torch.ones(len(batch), tower.patches, 1, device=tokens.device)
    for number, count in enumerate(merge_schedule(setting.share, tower.patches, tower.depth - start), start):
        mask = None if owner is None or setting.flag("plain") else size_mask(sizes, tower.prefix)
        if not count:
            tokens = tower.block(number, tokens, mask)
            continue
        pairing = _pairs(batch, setting, number, tokens, count)
        tokens = tower.attend(number, tokens, mask)
        prefix, patches = tokens[:, : tower.prefix], tokens[:, tower.prefix :]
        sums, positions = pairing.sums(patches.float() * sizes), pairing.positions(patches.shape[1])
        sizes = pairing.sums(sizes)
        tokens = tower.feed(number, torch.cat([prefix, (sums / sizes).to(tokens.dtype)], 1))
        owner = positions if owner is None else positions.gather(1, owner)
    if owner is not None and tower.pools_patches:
        patches = take(tokens[:, tower.prefix :], owner)
        return Outcome(tower.finish(torch.cat([tokens[:, : tower.prefix], patches], 1)), owner=owner)
    return Outcome(tower.finish(tokens), owner=owner)


def size_mask(sizes: Tensor, prefix: int) -> Tensor:
    """Return the mask of proportional attention, the logarithm of sizes [B, n, 1] per key, [B, 1, 1, P + n]."""
    return functional.pad(sizes[..., 0].log(), (prefix, 0))[:, None, None]


def _pairs(batch: TokenBatch, setting: TokenSetting, number: int, tokens: Tensor, count: int) -> Pairing:
    length = tokens.shape[1] - batch.tower.prefix
    seconds = length // 2
    if setting.kind == "random":
        order = batch.shuffles(f"merged in block {number}", setting.seed, length - seconds)
        draws = batch.draws(f"partners in block {number}", setting.seed, length - seconds) % np.uint64(seconds)
        partner = torch.from_numpy(draws.astype(np.int64)).to(tokens.device)
    else:
        keys = batch.tower.keys(number, tokens)
        metric = functional.normalize(keys.mean(1)[:, batch.tower.prefix :], dim=-1)
        best, partner = product(metric[:, ::2], metric[:, 1::2].transpose(1, 2)).max(-1)
        order = best.argsort(dim=1, descending=True, stable=True)
    merged = order[:, :count]
    return Pairing(merged, partner.gather(1, merged), order[:, count:].sort(1).values)
