"""Selection: the share of the patch tokens that score highest stays, the others leave the sequence.

In flight a token is scored by what enters the block where it may leave; with several layers the share is of what is
left. `after` lets tokens leave between a block's attention and its MLP, as EViT does (arXiv 2202.07800, section 3), and
`fuse` adds its fused token, the sum of the others weighted by the attention they got. `two-pass` scores by a whole pass
of the unmodified tower, which tells apart which tokens are taken from when.
"""

from __future__ import annotations

import torch
from torch import Tensor

from semscale.tokens.batch import Outcome, TokenBatch
from semscale.tokens.scores import (
    BY_ATTENTION,
    BY_POSITION,
    as_mask,
    evenly,
    final_scores,
    highest,
    last_layers,
    position_scores,
    take,
    token_scores,
)
from semscale.tokens.setting import TokenSetting
from semscale.tokens.token_counts import kept
from semscale.tokens.tower import Tower


def required_layers(setting: TokenSetting, tower: Tower) -> frozenset[int]:
    """Return the blocks whose unmodified inputs are needed."""
    return frozenset(setting.layers[:1]) | (last_layers(tower) if setting.flag("two-pass") else frozenset())


def run(batch: TokenBatch, setting: TokenSetting) -> Outcome:
    """Return the features of the images with the share of tokens left at each layer."""
    tower, start = batch.tower, setting.layers[0]
    fuse = setting.flag("fuse")
    after = fuse or setting.flag("after")
    tokens = batch.hidden(start)
    ids = torch.arange(tower.patches, device=tokens.device).expand(len(batch), -1)
    for number in range(start, tower.depth):
        count = kept(setting.share, ids.shape[1])
        if number not in setting.layers or count == ids.shape[1]:
            tokens = tower.block(number, tokens)
            continue
        attention = tower.attention_received(number, tokens) if fuse else None
        positions = choose(batch, setting, (number, tokens, attention), ids)
        if not after:
            tokens, ids = _keep(tower, tokens, ids, positions)
            tokens = tower.block(number, tokens)
            continue
        tokens = tower.attend(number, tokens)
        fused = None if attention is None else fused_token(tokens[:, tower.prefix :], attention, positions)
        tokens, ids = _keep(tower, tokens, ids, positions)
        if fused is not None:
            tokens = torch.cat([tokens, fused], 1)
            ids = torch.cat([ids, ids.new_full((len(batch), 1), -1)], 1)
        tokens = tower.feed(number, tokens)
    return Outcome(tower.finish(tokens), kept=as_mask(ids, tower.patches))


def choose(batch: TokenBatch, setting: TokenSetting, state: tuple[int, Tensor, Tensor | None], ids: Tensor) -> Tensor:
    """Return the positions in the sequence of the patches that go on, rising, int64 [B, k].

    Args:
        batch, setting: the images and the level.
        state: the block that the tokens enter, the tokens [B, P + n, C], and the attention that the patches get there,
            [B, n], if it is known.
        ids: the patch of each token, int64 [B, n]; -1 for a fused token.
    """
    (number, tokens, attention), kind, length = state, setting.kind, ids.shape[1]
    count = kept(setting.share, length)
    if kind == "stride":
        return evenly(batch, length, count)
    if kind in BY_POSITION or setting.flag("two-pass"):
        whole = position_scores(batch, kind, setting.seed) if kind in BY_POSITION else final_scores(batch, kind)
        return highest(whole.gather(1, ids.clamp(min=0)).where(ids >= 0, -torch.inf), count)
    if attention is not None and kind in BY_ATTENTION:
        return highest(-attention if kind == "lowest" else attention, count)
    if number == setting.layers[0]:
        # the same for all levels, so computed once
        key = ("scores", kind, number)
        return highest(batch.remember(key, lambda: token_scores(batch, kind, number, tokens)), count)
    return highest(token_scores(batch, kind, number, tokens), count)


def fused_token(patches: Tensor, weights: Tensor, positions: Tensor) -> Tensor:
    """Return EViT's fused token: the sum of the tokens that leave, times their attention, not normalised; [B, 1, C].

    >>> patches, weights = torch.tensor([[[2.0], [3.0], [5.0]]]), torch.tensor([[0.5, 0.25, 0.25]])
    >>> fused_token(patches, weights, torch.tensor([[0]]))
    tensor([[[2.]]])
    """
    leaving = weights.masked_fill(as_mask(positions, weights.shape[1]), 0)
    return (leaving[..., None] * patches.float()).sum(1, keepdim=True).to(patches.dtype)


def _keep(tower: Tower, tokens: Tensor, ids: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    patches = take(tokens[:, tower.prefix :], positions)
    return torch.cat([tokens[:, : tower.prefix], patches], 1), ids.gather(1, positions)
