"""The image tower of the bundled model: a vision transformer with a convolutional stem, registered with timm.

A plain patch embedding learns too slowly for a model that is trained on one CPU core; a small stack of convolutions
before the transformer mends that (T. Xiao et al., Early Convolutions Help Transformers See Better, 2021).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from timm.layers import HybridEmbed
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_hybrid import ConvStem

IMAGE_SIZE = 40
"""Side of the tower's input, in pixels."""

_STEM_CHANNELS = (24, 48, 48, 96, 96)
_STEM_STRIDES = (2, 2, 1, 2, 1)
_WIDTH = 96
_DEPTH = 3
_HEADS = 3


@register_model  # type: ignore[untyped-decorator, unused-ignore]  # timm has no types
def vit_semscale_mini(
    pretrained: bool = False, num_classes: int = 0, global_pool: str = "avg", **unused: Any
) -> VisionTransformer:
    """Return the untrained tower: 40 x 40 pixels to 5 x 5 tokens of width 96, three transformer blocks.

    Args:
        pretrained: must be False; the trained weights come with the whole model (semscale.models.mini).
        num_classes: width of a classifier on top, 0 for none.
        global_pool: how the tokens become one vector, as timm names it.
        unused: what timm hands to every entry point (pretrained_cfg, cache_dir, ...).

    Raises:
        ValueError: `pretrained` is true.
    """
    if pretrained:
        raise ValueError("vit_semscale_mini has no timm weights; use semscale.models.mini.load_mini")
    stem = ConvStem(depth=len(_STEM_CHANNELS), channels=_STEM_CHANNELS, stride=_STEM_STRIDES)
    tower = VisionTransformer(
        img_size=IMAGE_SIZE,
        patch_size=1,
        num_classes=num_classes,
        global_pool=global_pool,
        class_token=False,
        embed_dim=_WIDTH,
        depth=_DEPTH,
        num_heads=_HEADS,
        embed_layer=partial(HybridEmbed, backbone=stem),
    )
    # open_clip's timm adapter asks a tower for this; without pool_size it takes the output as one vector per image.
    tower.default_cfg = {"architecture": "vit_semscale_mini", "input_size": (3, IMAGE_SIZE, IMAGE_SIZE)}
    tower.pretrained_cfg = tower.default_cfg
    return tower
