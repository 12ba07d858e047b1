"""Masked attention: from a block on, no query reads the keys of the patches outside of a mask (arXiv 2404.18152).

Prefix tokens are always read. With a class token and from block 0 on this is the same as dropping the tokens; later,
the patches that stay have already read the others. Where the pool reads patches, it reads the unmasked ones only.

`mask` keeps the patches that a given mask covers most, then those nearest to it; level 0 keeps exactly those of which
it covers more than `above`, however many. Controls: as many at random, another image's mask, the patches furthest from
it (`inverted`), or the same change made to pixels (`fill` with the image's mean colour, `blur`). An image whose mask
leaves nothing stays whole.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from semscale.common.errors import ConfigError
from semscale.tokens.batch import Outcome, TokenBatch
from semscale.tokens.scores import as_mask, highest, position_scores, take, token_scores
from semscale.tokens.setting import TokenSetting
from semscale.tokens.token_counts import kept
from semscale.tokens.tower import Tower

_PIXELS = ("fill", "blur")


def required_layers(setting: TokenSetting, tower: Tower) -> frozenset[int]:
    """Return the blocks whose unmodified inputs are needed."""
    return frozenset() if setting.kind in _PIXELS else frozenset(setting.layers)


def run(batch: TokenBatch, setting: TokenSetting) -> Outcome:
    """Return the features of the images with the other patches out of sight."""
    tower, start = batch.tower, setting.layers[0]
    keep = _kept_patches(batch, setting)
    if setting.kind in _PIXELS:
        seen = edited_images(batch, setting, keep)
        return Outcome(tower.forward(batch.normalise(seen)), kept=keep, images=seen)
    tokens = tower.run(batch.hidden(start), start, mask=key_mask(keep, tower.prefix))
    if not tower.pools_patches:
        return Outcome(tower.finish(tokens), kept=keep)
    prefix, patches = tokens[:, : tower.prefix], tokens[:, tower.prefix :]
    if setting.share:
        positions = highest(keep.float(), kept(setting.share, tower.patches))
        return Outcome(tower.finish(torch.cat([prefix, take(patches, positions)], 1)), kept=keep)
    # each image has a number of its own, and must not be computed differently for its neighbours' sake
    rows = [tower.finish(torch.cat([prefix[i], patches[i][keep[i]]])[None]) for i in range(len(batch))]
    return Outcome(torch.cat(rows), kept=keep)


def key_mask(keep: Tensor, prefix: int) -> Tensor:
    """Return what masked attention adds to logits, float32 [B, 1, 1, P + N]: -inf for patches that are not kept."""
    hidden = functional.pad(~keep, (prefix, 0))[:, None, None]
    return torch.zeros(hidden.shape, device=keep.device).masked_fill_(hidden, -torch.inf)


def _kept_patches(batch: TokenBatch, setting: TokenSetting) -> Tensor:
    """Return the patches that are read, bool [B, N]."""
    tower, kind = batch.tower, setting.kind
    if not setting.share:
        return _mask_itself(batch, setting)
    count = kept(setting.share, tower.patches)
    if kind == "attn":
        start = setting.layers[0]
        key = ("scores", "attn", start)
        scores = batch.remember(key, lambda: token_scores(batch, "attn", start, batch.hidden(start)))
    elif kind == "random":
        scores = position_scores(batch, "random", setting.seed)
    else:
        scores = _nearness(batch, setting)
    return as_mask(highest(-scores if kind == "inverted" else scores, count), tower.patches)


def _object(batch: TokenBatch, setting: TokenSetting) -> tuple[Tensor, Tensor]:
    share = batch.object_share("other_masks" if setting.kind == "other" else "masks")
    return share, share > float(setting.option("above"))


def _mask_itself(batch: TokenBatch, setting: TokenSetting) -> Tensor:
    if setting.kind == "attn":
        expected = "a share above 0"
        raise ConfigError("attention has no mask of its own", found=setting.text, expected=expected)
    _, inside = _object(batch, setting)
    if setting.kind == "random":
        ranks = position_scores(batch, "random", setting.seed)  # from 0 down
        return (-ranks < inside.sum(1, keepdim=True)) | ~inside.any(1, keepdim=True)
    inside = ~inside if setting.kind == "inverted" else inside
    return inside | ~inside.any(1, keepdim=True)


def _nearness(batch: TokenBatch, setting: TokenSetting) -> Tensor:
    """Return scores of the patches: most of the object first, then by distance to it; float64 [B, N]."""
    share, inside = _object(batch, setting)
    rows, columns = (torch.arange(size, device=share.device, dtype=torch.float64) for size in batch.tower.grid)
    positions = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1).flatten(0, 1)
    distances = torch.cdist(positions, positions)
    nearest = distances.masked_fill(~inside[:, None], torch.inf).amin(2)
    # a pixel more counts more than any distance
    return share.double() * 1e6 - nearest.where(inside.any(1, keepdim=True), 0)


def edited_images(batch: TokenBatch, setting: TokenSetting, keep: Tensor) -> Tensor:
    """Return the images with the pixels outside of the kept ones filled or blurred, uint8 [B, H, W, 3] on the CPU.

    Level 0 follows the mask pixel by pixel, other levels the cells of the patches.
    """
    images, (height, width) = batch.images, batch.tower.cell
    cells = keep.cpu().reshape(-1, *batch.tower.grid)
    visible = cells.repeat_interleave(height, 1).repeat_interleave(width, 2)
    if not setting.share:
        masks = batch.require("masks", "a mask for every image").cpu() > 0
        visible = masks | ~masks.flatten(1).any(1)[:, None, None]
    planes = images.permute(0, 3, 1, 2).float()
    if setting.kind == "fill":
        other = planes.mean((2, 3), keepdim=True).expand_as(planes)
    else:
        other = blurred(planes, max(height, width))
    return torch.where(visible[:, None], planes, other.round()).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def blurred(planes: Tensor, sigma: float) -> Tensor:
    """Return images [B, 3, H, W] blurred by a Gaussian of `sigma` pixels, cut at two sigma, mirrored at the border."""
    radius = min(int(2 * sigma), min(planes.shape[-2:]) - 1)
    steps = torch.arange(-radius, radius + 1, dtype=planes.dtype)
    kernel = torch.exp(-(steps**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    planes = functional.pad(planes, (radius,) * 4, mode="reflect")
    return functional.conv2d(functional.conv2d(planes, kernel, groups=3), kernel.transpose(2, 3), groups=3)
