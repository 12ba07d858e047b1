"""Token counts of a level: how many tokens enter the attention and the MLP of every block.

Plain integers from a setting and a tower's shape, so that costs can be planned where there is no torch. A count per
block is a pair (n, m): n tokens at the attention, m at the MLP, prefix tokens included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from semscale.common.errors import ConfigError

if TYPE_CHECKING:
    from fractions import Fraction

    from semscale.tokens.setting import TokenSetting

Counts = list[tuple[int, int]]


@dataclass(frozen=True)
class TowerShape:
    """Shape of an image tower, as costs and checks need it.

    Attributes:
        name: class of the tower, as errors call it.
        depth, width, heads, hidden: blocks, channels, attention heads, neurons of an MLP.
        gated: whether the MLP has a second input matrix (GeGLU, SwiGLU).
        grid: rows and columns of patch tokens.
        prefix: tokens before the patches: class token, trained registers.
        class_token: whether the first of them is read as the image.
        pools_patches: whether the tower's result is pooled from the patch tokens themselves.
        latent_pool: whether a latent probe pools them by attention of its own.
        image_size: height and width in pixels.
        stem_macs: multiply-adds of the patch embedding.
        spread: patch tokens that change when the pixels of one cell do; 1 for a plain patch embedding.
    """

    name: str
    depth: int
    width: int
    heads: int
    hidden: int
    gated: bool
    grid: tuple[int, int]
    prefix: int
    class_token: bool
    pools_patches: bool
    latent_pool: bool
    image_size: tuple[int, int]
    stem_macs: int
    spread: int

    @property
    def patches(self) -> int:
        """The number of patch tokens."""
        return self.grid[0] * self.grid[1]


def kept(share: Fraction, count: int) -> int:
    """Return how many of `count` tokens a share leaves: rounded up, at least 1, without floating point.

    >>> from fractions import Fraction
    >>> kept(Fraction("0.55"), 100), kept(Fraction("0.01"), 25)
    (55, 1)
    """
    return max(1, -(-share.numerator * count // share.denominator))


def whole_counts(setting: TokenSetting, shape: TowerShape) -> Counts:
    """Return the counts of a strategy that takes no token away."""
    return [(shape.prefix + shape.patches,) * 2] * shape.depth


def select_counts(setting: TokenSetting, shape: TowerShape) -> Counts:
    """Return the counts of `select`: before a block, or between its attention and its MLP (`after`, `fuse`)."""
    n, counts, prefix = shape.patches, [], shape.prefix
    fused, after = setting.flag("fuse"), setting.flag("after") or setting.flag("fuse")
    for block in range(shape.depth):
        before = n
        if block in setting.layers:
            n = kept(setting.share, n)
            n += fused and n < before
        counts.append((prefix + (before if after else n), prefix + n))
    return counts


def merge_schedule(share: Fraction, patches: int, blocks: int) -> list[int]:
    """Return the patch tokens to merge away per block, constant but for a remainder, which the first blocks take.

    A block merges at most half of its tokens; what later blocks could not merge is taken earlier.

    Raises:
        ConfigError: halving in every block leaves more tokens than the share asks for.

    >>> from fractions import Fraction
    >>> merge_schedule(Fraction("0.5"), 25, 3)
    [4, 4, 4]
    """
    target, schedule, n = kept(share, patches), [], patches
    for rest in range(blocks, 0, -1):
        largest = target * 2 ** (rest - 1)  # so many the later blocks can still bring down to the target
        wanted = max(-(-(n - target) // rest), n - largest)
        if wanted > n // 2:
            least = patches
            for _ in range(blocks):
                least -= least // 2
            expected = f"a share of at least {least}/{patches}"
            what = "merging pairs cannot leave so few tokens"
            raise ConfigError(what, found=f"{target} of {patches} in {blocks} blocks", expected=expected)
        schedule.append(wanted)
        n -= wanted
    return schedule


def merge_counts(setting: TokenSetting, shape: TowerShape) -> Counts:
    """Return the counts of `merge`: between attention and MLP of every block, or all at once before the first."""
    n, start = shape.patches, setting.layers[0]
    if setting.kind == "pool":
        return partition_counts(setting, shape, kept(setting.share, n))
    schedule = [0] * start + merge_schedule(setting.share, n, shape.depth - start)
    counts = []
    for merged in schedule:
        counts.append((shape.prefix + n, shape.prefix + n - merged))
        n -= merged
    return counts


def register_counts(setting: TokenSetting, shape: TowerShape) -> Counts:
    """Return the counts of `registers`: those that are appended go through all blocks."""
    added = int(setting.share) if setting.kind in ("shift", "empty", "wrong") else 0
    return [(shape.prefix + shape.patches + added,) * 2] * shape.depth


def partition_counts(setting: TokenSetting, shape: TowerShape, regions: int | None = None) -> Counts:
    """Return the counts of a partition: all patches before the block in question, then a token per region."""
    regions = int(setting.share) if regions is None else regions
    whole = (shape.prefix + shape.patches,) * 2
    merged = (shape.prefix + regions,) * 2
    start = setting.layers[0]
    return [whole] * start + [merged] * (shape.depth - start)


def segment_counts(setting: TokenSetting, shape: TowerShape) -> Counts:
    """Return the counts of `segments`: a token per instance, and one for all the rest."""
    return partition_counts(setting, shape, int(setting.share) + 1)


def transmit_counts(setting: TokenSetting, shape: TowerShape) -> Counts:
    """Return the counts of `transmit`: a receiver that drops tiles has no more tokens than came."""
    n = shape.patches
    if setting.option("receiver") == "drop":
        n = kept(setting.share, n)
    return [(shape.prefix + n,) * 2] * shape.depth
