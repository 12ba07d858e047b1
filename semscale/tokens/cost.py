"""Costs of a level: tokens per block and multiply-adds, exact for the level.

A block of width C costs `4 n C^2 + 2 n^2 C` multiply-adds for n tokens at its attention and `8 m C^2` for m tokens at
an MLP of 4 C neurons; the patch embedding costs what its convolutions do. Projection, pooling and normalisation are not
counted. These are the figures that papers on token reduction publish: 17.56 G for ViT-B/16 at 224 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

from semscale.tokens.setting import TokenSetting
from semscale.tokens.token_counts import Counts, TowerShape


@dataclass(frozen=True)
class LevelCost:
    """Cost of one image at a level.

    Attributes:
        tokens: (at the attention, at the MLP) of every block, prefix tokens included.
        macs: multiply-adds of the tower at this level.
        scoring_macs: those that choosing the tokens takes beside them; a second pass counts whole.
    """

    tokens: tuple[tuple[int, int], ...]
    macs: int
    scoring_macs: int

    @property
    def left(self) -> int:
        """The tokens that leave the last block, prefix included."""
        return self.tokens[-1][1]


def block_macs(shape: TowerShape, attention: int, mlp: int) -> int:
    """Return the multiply-adds of a block with so many tokens at its attention and at its MLP."""
    width = shape.width
    matrices = 3 if shape.gated else 2
    return 4 * attention * width**2 + 2 * attention**2 * width + matrices * mlp * width * shape.hidden


def tower_macs(shape: TowerShape, counts: Counts) -> int:
    """Return the multiply-adds of a tower whose blocks have these counts."""
    return shape.stem_macs + sum(block_macs(shape, n, m) for n, m in counts)


def level_cost(setting: TokenSetting, shape: TowerShape) -> LevelCost:
    """Return what an image costs at a level.

    Raises:
        ConfigError: the tower is too small for the level.

    >>> from semscale.tokens.setting import parse_setting
    >>> size = {"depth": 12, "width": 768, "heads": 12, "hidden": 3072, "gated": False, "grid": (14, 14), "prefix": 1}
    >>> pool = {"class_token": True, "pools_patches": False, "latent_pool": False}
    >>> vit = TowerShape("ViT-B/16", **size, **pool, image_size=(224, 224), stem_macs=196 * 768 * 768, spread=1)
    >>> [round(level_cost(parse_setting(f"select:{r}@3,6,9+fuse"), vit).macs / 1e9, 2) for r in (1, 0.9, 0.7)]
    [17.56, 15.39, 11.61]
    """
    whole = [(shape.prefix + shape.patches,) * 2] * shape.depth
    counts = whole if setting.is_identity else setting.rules.counts(setting, shape)
    scoring = 0 if setting.is_identity else _scoring_macs(setting, shape, counts)
    return LevelCost(tuple(counts), tower_macs(shape, counts), scoring)


def attention_macs(shape: TowerShape, tokens: int) -> int:
    """Return the multiply-adds of scoring `tokens` tokens by attention beside a block's own.

    One query where a class token asks, N C^2 + C^2 + N C; where the tower pools patches, a query of each.
    """
    width, patches = shape.width, tokens - shape.prefix
    queries = 1 if shape.class_token else patches
    return tokens * width**2 + queries * width**2 + queries * tokens * width


def _final_macs(shape: TowerShape, start: int) -> int:
    """Return the multiply-adds of scoring by a whole pass, of which the blocks before `start` have been paid for."""
    whole, blocks = shape.prefix + shape.patches, shape.depth - 1 - start
    if shape.latent_pool:
        probe = shape.patches * shape.width**2 + shape.width**2 + shape.patches * shape.width
        return (blocks + 1) * block_macs(shape, whole, whole) + probe
    return blocks * block_macs(shape, whole, whole) + attention_macs(shape, whole)


def _scoring_macs(setting: TokenSetting, shape: TowerShape, counts: Counts) -> int:
    kind, width, whole = setting.kind, shape.width, shape.prefix + shape.patches
    if setting.strategy == "transmit":
        return shape.stem_macs + _final_macs(shape, 0) if kind in ("attn", "lowest") else 0
    if setting.flag("two-pass") and kind in ("attn", "lowest", "meancos", "norm"):
        return _final_macs(shape, setting.layers[0])
    if kind in ("attn", "lowest") or setting.flag("fuse"):
        entering = [counts[layer - 1][1] if layer else whole for layer in setting.layers]
        return sum(attention_macs(shape, tokens) for tokens in entering)
    if kind == "equal":
        return sum(n * width**2 for n, _ in counts[setting.layers[0] :])
    if kind == "tome":
        merging = [n for n, m in counts if m < n]
        pairs = sum(((n - shape.prefix) // 2) * ((n - shape.prefix + 1) // 2) for n in merging)
        return sum(merging) * width**2 + pairs * width // shape.heads
    return 0
