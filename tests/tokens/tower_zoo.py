"""Small image towers of the kinds that token strategies act on, with random weights, and pictures for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import open_clip
import torch
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer as OpenClipTower
from timm.layers import SwiGLU
from timm.models.vision_transformer import VisionTransformer as TimmTower
from torch import Tensor, nn

import semscale.models.bundled_model  # noqa: F401  # makes the tower with a convolutional stem known
from semscale.tokens import parse_setting
from semscale.tokens.batch import Outcome, TokenBatch, TokenInputs
from semscale.tokens.levels import trace_levels
from semscale.tokens.register_neurons import RegisterNeurons
from semscale.tokens.tower import Tower

SIZE, GRID, BATCH = 40, (5, 5), 3


def open_clip_tower(**options: Any) -> nn.Module:
    settings = {"width": 48, "layers": 3, "heads": 3, "mlp_ratio": 4.0, "output_dim": 32}
    return OpenClipTower(image_size=SIZE, patch_size=8, **(settings | options))


def timm_tower(**options: Any) -> nn.Module:
    settings = {"img_size": SIZE, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 3, "num_classes": 0}
    model = TimmModel.__new__(TimmModel)
    nn.Module.__init__(model)
    model.trunk, model.head = TimmTower(**(settings | options)), nn.Sequential(nn.Linear(48, 32, bias=False))
    return model


ZOO: dict[str, Callable[[], nn.Module]] = {
    # an even number of heads: torch then has a faster attention of its own, with other bits
    "tok": partial(open_clip_tower, width=64, heads=4),
    "avg": partial(open_clip_tower, pool_type="avg", no_ln_pre=True, final_ln_after_pool=True),
    "timm-cls": partial(timm_tower, pre_norm=True),
    "timm-reg4": partial(timm_tower, reg_tokens=4, no_embed_class=True, init_values=0.3),
    "timm-map": partial(timm_tower, class_token=False, global_pool="map"),
    "timm-max": partial(timm_tower, global_pool="max", reg_tokens=2, dynamic_img_size=True),
    "conv-stem": lambda: open_clip.create_model("semscale-mini").visual,
    "qk-norm": partial(open_clip_tower, qk_norm=True, scale_attn=True, scale_heads=True),
    "swiglu": partial(timm_tower, mlp_layer=SwiGLU, qk_norm=True),
}
LOCAL = [name for name in ZOO if name != "conv-stem"]


@cache
def tower(name: str) -> Tower:
    """Return a tower whose weights are large enough for every token to matter."""
    torch.manual_seed(sum(map(ord, name)))
    visual = ZOO[name]()
    for key, value in visual.named_parameters():
        is_matrix = value.ndim > 1 and not key.endswith(("_embed", "_embedding", "_token", "latent"))
        nn.init.normal_(value, std=value[0].numel() ** -0.5 if is_matrix else 0.5)
    for module in visual.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.normal_(module.weight, mean=1, std=0.5)
    return Tower(visual.eval().requires_grad_(False))


def pictures(count: int = BATCH, seed: int = 0) -> Tensor:
    """Return smooth random pictures, uint8 [count, 40, 40, 3]."""
    noise = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    planes = nn.functional.interpolate(noise, SIZE, mode="bicubic").clamp(0, 1) * 255
    return planes.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def normalised(images: Tensor) -> Tensor:
    """Return pictures as the towers take them."""
    return TokenBatch(tower("tok"), torch.zeros(0)).normalise(images)


def given(images: Tensor) -> TokenInputs:
    """Return masks, label maps and neurons for as many pictures, different for each."""
    count = len(images)
    centres = torch.tensor([[8 + 5 * i, 30 - 4 * i] for i in range(count)])
    position = torch.stack(torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij"), -1)
    distance = ((position[None] - centres[:, None, None]) ** 2).sum(-1)
    labels = (distance < 90).long() + 2 * (distance.flip(1) < 40).long() * (distance >= 90)
    found = RegisterNeurons(((0, 5), (1, 17), (1, 3)), ((1, 2), (4, 6), (7, 8)), 9.0, 2, 0.02)
    masks = labels == 1
    return TokenInputs(images, masks, masks.roll(1, 0), labels, labels.roll(1, 0), found)


def trace(found: Tower | str, images: Tensor, texts: Sequence[str], inputs: TokenInputs | None = None) -> list[Outcome]:
    """Return what settings, given as texts, make of pictures."""
    where = tower(found) if isinstance(found, str) else found
    return trace_levels(where, normalised(images), [parse_setting(text) for text in texts], inputs)
