"""Transmission: only the tiles that score highest are sent, and what arrives is what the tower sees.

After transformer-aided semantic communications (arXiv 2405.01521), with receivers that are not trained: missing tiles
get the picture's mean colour (`mean`), a thumbnail (`blur`), or no token (`drop`, where a token sees its own tile
only). Tiles are the cells of the patches, scored by a whole pass of the tower. The level is the share of tiles, or a
number of bytes, into which as many tiles go as fit. Bytes are those of real messages
(:mod:`semscale.tokens.tile_codec`).

Controls: as many tiles at `random`, from the `centre`, the `lowest`; and the honest opponents at the bytes that this
image takes with `attn`: the whole picture as `jpeg`, or down-sampled (`down`).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semscale.tokens.batch import Outcome, TokenBatch
from semscale.tokens.scores import BY_POSITION, as_mask, final_scores, highest, last_layers, position_scores, take
from semscale.tokens.setting import TokenSetting
from semscale.tokens.tile_codec import TileCoder, downsampled_within, jpeg_within
from semscale.tokens.token_counts import kept
from semscale.tokens.tower import Tower

_WHOLE = {"jpeg": jpeg_within, "down": downsampled_within}


def required_layers(setting: TokenSetting, tower: Tower) -> frozenset[int]:
    """Return the blocks whose unmodified inputs are needed."""
    scored = frozenset() if setting.kind in BY_POSITION else last_layers(tower)
    return scored | (frozenset({0}) if setting.option("receiver") == "drop" else frozenset())


def run(batch: TokenBatch, setting: TokenSetting) -> Outcome:
    """Return the features of what arrives of the images, and the bytes that were sent."""
    tower, pictures = batch.tower, batch.images.numpy()
    coder = _coder(batch, setting)
    if setting.kind in _WHOLE:
        return _whole(batch, setting, pictures)
    keep, messages = _messages(batch, setting)
    sent = torch.tensor([len(message) for message in messages])
    arrived = torch.from_numpy(np.stack([coder.decode(message) for message in messages]))
    if coder.fill != "drop":
        return Outcome(tower.forward(batch.normalise(arrived)), keep, images=arrived, sent_bytes=sent)
    # lossless tiles give the bits of the whole picture's tokens
    tokens = batch.hidden(0) if coder.coder == "deflate" else tower.embed(batch.normalise(arrived))
    positions = highest(keep.float(), kept(setting.share, tower.patches))
    tokens = torch.cat([tokens[:, : tower.prefix], take(tokens[:, tower.prefix :], positions)], 1)
    return Outcome(tower.finish(tower.run(tokens, 0)), keep, images=arrived, sent_bytes=sent)


def _coder(batch: TokenBatch, setting: TokenSetting) -> TileCoder:
    quality = int(float(setting.option("quality")))
    return TileCoder(batch.tower.cell, setting.option("coder"), quality, setting.option("receiver"))


def _messages(batch: TokenBatch, setting: TokenSetting) -> tuple[Tensor, list[bytes]]:
    """Return the tiles that are sent, bool [B, N], and the messages."""

    def make() -> tuple[Tensor, list[bytes]]:
        keep, coder = _tiles_sent(batch, setting), _coder(batch, setting)
        marks = keep.cpu().numpy()
        return keep, [coder.encode(one, mark) for one, mark in zip(batch.images.numpy(), marks, strict=True)]

    return batch.remember(("messages", setting), make)


def _tiles_sent(batch: TokenBatch, setting: TokenSetting) -> Tensor:
    kind, patches = setting.kind, batch.tower.patches
    scores = position_scores(batch, kind, setting.seed) if kind in BY_POSITION else final_scores(batch, kind)
    if setting.share <= 1:
        return as_mask(highest(scores, kept(setting.share, patches)), patches)
    order = scores.argsort(dim=1, descending=True, stable=True).cpu().numpy()
    pictures, coder = batch.images.numpy(), _coder(batch, setting)
    marks = [_fitting(coder.sizes(one), row, int(setting.share)) for one, row in zip(pictures, order, strict=True)]
    return torch.from_numpy(np.stack(marks)).to(scores.device)


def _fitting(sizes: tuple[int, NDArray[np.int64]], order: NDArray[np.int64], budget: int) -> NDArray[np.bool_]:
    """Return the first tiles of an order whose message is within a budget, at least one."""
    fixed, tiles = sizes
    fits = int((fixed + np.cumsum(tiles[order]) <= budget).sum())
    marks = np.zeros(len(order), dtype=np.bool_)
    marks[order[: max(fits, 1)]] = True
    return marks


def _whole(batch: TokenBatch, setting: TokenSetting, pictures: NDArray[np.uint8]) -> Outcome:
    within = _WHOLE[setting.kind]
    if setting.share > 1:
        budgets = [int(setting.share)] * len(batch)
    else:
        tiles = TokenSetting("transmit", setting.level, options=setting.options)
        budgets = [len(message) for message in _messages(batch, tiles)[1]]
    made = [within(picture, budget) for picture, budget in zip(pictures, budgets, strict=True)]
    arrived = torch.from_numpy(np.stack([picture for picture, _ in made]))
    features = batch.tower.forward(batch.normalise(arrived))
    return Outcome(features, images=arrived, sent_bytes=torch.tensor([size for _, size in made]))
