"""Levels of an image tower: the features of a batch at every setting, in one call.

The unmodified level is the tower's own forward, to the last bit. Blocks before the first one that a setting changes are
computed once for all settings, and so are scores. No image's result depends on the images beside it: every setting has
fixed shapes, and random draws come from the image's own pixels.

Some strategies put hooks on the tower while they run, so one tower must not be used by several threads at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from semscale.common.errors import ConfigError
from semscale.tokens.batch import Outcome, TokenBatch, TokenInputs
from semscale.tokens.setting import TokenSetting
from semscale.tokens.token_counts import TowerShape, merge_schedule
from semscale.tokens.token_strategies import implementation
from semscale.tokens.tower import Tower


def encode_levels(
    visual: nn.Module | Tower, pixels: Tensor, settings: Sequence[TokenSetting], inputs: TokenInputs | None = None
) -> list[Tensor]:
    """Return the features of a batch of images at every setting, float [B, D] each, not normalised.

    Args:
        visual: the image tower of a CLIP model (`model.visual`) in eval mode, or a `Tower` made of it before, which
            saves a look at its stem with every call.
        pixels: float [B, 3, H, W] as the tower takes them, on its device and in its dtype.
        settings: the levels.
        inputs: masks, label maps, register neurons, and the images as bytes.

    Raises:
        ModelError: the tower is of a class that token strategies cannot act on.
        ConfigError: a setting does not fit the tower, or lacks an input.
    """
    return [outcome.features for outcome in trace_levels(visual, pixels, settings, inputs)]


@torch.inference_mode()
def trace_levels(
    visual: nn.Module | Tower, pixels: Tensor, settings: Sequence[TokenSetting], inputs: TokenInputs | None = None
) -> list[Outcome]:
    """Return the features at every setting together with what is left of each image; see :func:`encode_levels`."""
    tower = visual if isinstance(visual, Tower) else Tower(visual)
    changed = [setting for setting in settings if not setting.is_identity]
    if changed:
        for setting in changed:
            check_setting(setting, tower.shape)
    required = frozenset[int]().union(*(_required_layers(setting, tower) for setting in changed))
    batch = TokenBatch(tower, pixels, inputs, required)
    if len(changed) < len(settings):
        batch.own_forward()
    for layer in sorted(required):
        batch.hidden(layer)
    return [
        Outcome(batch.own_forward()) if setting.is_identity else implementation(setting.strategy).run(batch, setting)
        for setting in settings
    ]


def _required_layers(setting: TokenSetting, tower: Tower) -> frozenset[int]:
    module = implementation(setting.strategy)
    if not hasattr(module, "required_layers"):
        return frozenset(setting.layers)
    layers: frozenset[int] = module.required_layers(setting, tower)
    return layers


def check_setting(setting: TokenSetting, shape: TowerShape) -> None:
    """Refuse a setting that a tower of this shape cannot have.

    Raises:
        ConfigError: a layer that is not there, more clusters or regions than there are patches or pixels, too few
            tokens for merging, or tiles dropped where tokens see more than their own tile.
    """
    where = setting.text
    if setting.layers and setting.layers[-1] >= shape.depth:
        found, expected = f"layer {setting.layers[-1]}", f"0 to {shape.depth - 1}"
        raise ConfigError("the tower has no such block", where=where, found=found, expected=expected)
    if setting.strategy == "clusters" and setting.share > shape.patches:
        expected = f"at most {shape.patches}, the tower's patches"
        raise ConfigError("more clusters than patches", where=where, found=setting.level, expected=expected)
    if setting.strategy == "merge" and setting.kind != "pool":
        merge_schedule(setting.share, shape.patches, shape.depth - setting.layers[0])
    (height, width), (rows, columns) = shape.image_size, shape.grid
    if setting.strategy in ("superpixels", "segments", "transmit") and (height % rows or width % columns):
        expected = "an image size that is a multiple of the patches'"
        raise ConfigError("patches do not cover the image", where=where, found=f"{height} x {width}", expected=expected)
    if setting.option("receiver") == "drop":
        if setting.share > 1:
            expected = "a share of the tiles, or another receiver"
            raise ConfigError("a receiver that drops tiles takes a fixed number", where=where, expected=expected)
        if shape.spread > 1:
            found, expected = f"a cell of pixels changes {shape.spread} tokens", "a receiver that fills: mean or blur"
            what = "this tower's tokens see more than their tile"
            raise ConfigError(what, where=where, found=found, expected=expected)


def stem_note(shape: TowerShape) -> str:
    """Return what is to be said of a tower whose stem spreads a pixel over several tokens; empty for others.

    >>> stem_note(TowerShape("ViT", 3, 96, 3, 384, False, (5, 5), 0, False, True, False, (40, 40), 0, 1))
    ''
    """
    if shape.spread <= 1:
        return ""
    return (
        f"The convolutions before the tower's blocks spread the pixels of one cell over up to {shape.spread} of its "
        f"{shape.patches} tokens: taking a token away does not take away what it has seen."
    )
