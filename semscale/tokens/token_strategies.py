"""Registry of token strategies: their names, levels, kinds and options, without torch.

An entry says what a study file may write and what a level costs. What it does to a tower is the function `run` of the
module of the same name in `strategies/`, which is imported when it is first used.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from semscale.common.errors import ConfigError
from semscale.tokens import token_counts
from semscale.tokens.token_counts import Counts, TowerShape

if TYPE_CHECKING:
    from semscale.tokens.setting import TokenSetting


@dataclass(frozen=True)
class LevelRule:
    """Rule for the levels of a strategy.

    Attributes:
        identity: the level at which the tower is the unmodified one.
        expected: what errors say of valid levels.
        valid: whether a number is a level.
    """

    identity: Fraction
    expected: str
    valid: Callable[[Fraction], bool]


@dataclass(frozen=True)
class OptionRule:
    """Rule for the values of an option: some words, or numbers.

    Attributes:
        default: what holds where the option is not given.
        choices: the words; none for a non-negative number.
    """

    default: str
    choices: tuple[str, ...] = ()


FLAG = OptionRule("no", ("no", "yes"))
SHARES = LevelRule(Fraction(1), "a share above 0 and up to 1", lambda x: 0 < x <= 1)
SHARES_OR_MASK = LevelRule(Fraction(1), "a share up to 1, or 0 for the mask itself", lambda x: 0 <= x <= 1)
COUNTS = LevelRule(Fraction(0), "an integer, 0 for the unmodified tower", lambda x: x >= 0 and x.denominator == 1)
CLUSTERS = LevelRule(Fraction(1), "an integer from 1", lambda x: x >= 1 and x.denominator == 1)
BUDGETS = LevelRule(
    Fraction(1),
    "a share above 0 and up to 1, or a number of bytes above 1",
    lambda x: 0 < x <= 1 or x.denominator == 1,
)


@dataclass(frozen=True)
class TokenStrategy:
    """An entry of the registry.

    Attributes:
        name: how the study file calls it; also the module that runs it.
        description: one line.
        source: the paper or documentation that it follows.
        level: the levels.
        kinds: the scores or variants, the strategy's own first.
        controls: those of them that are controls, at equal counts.
        drawn: those that draw at random, so that a seed means something.
        layers: the blocks where it acts unless the setting says so; none where it always acts at the same position.
        several_layers: whether it may act at more than one.
        options: further options by name.
        counts: (setting, shape) -> tokens per block.
        needs: what kinds need beside pixels (:class:`semscale.tokens.batch.TokenInputs`); "" stands for every kind.
        revision: raised when the strategy's results change, so that none of the older ones are taken for them.
    """

    name: str
    description: str
    source: str
    level: LevelRule
    kinds: tuple[str, ...]
    controls: tuple[str, ...]
    drawn: tuple[str, ...]
    counts: Callable[[TokenSetting, TowerShape], Counts] = token_counts.whole_counts
    layers: tuple[int, ...] = (0,)
    several_layers: bool = False
    options: Mapping[str, OptionRule] = field(default_factory=dict)
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    revision: int = 1

    def inputs(self, kind: str) -> tuple[str, ...]:
        """Return the names of the inputs that a kind needs beside pixels."""
        return (*self.needs.get("", ()), *self.needs.get(kind, ()))


_TABLE = (
    TokenStrategy(
        "select",
        "Keep the share of the tokens that score highest.",
        "EViT (arXiv 2202.07800), adaptive token selection (arXiv 2405.02330)",
        SHARES,
        kinds=("attn", "meancos", "norm", "mask", "random", "radial", "stride", "lowest"),
        controls=("random", "radial", "stride", "lowest"),
        drawn=("random",),
        counts=token_counts.select_counts,
        several_layers=True,
        options={"after": FLAG, "fuse": FLAG, "two-pass": FLAG},
        needs={"mask": ("masks",)},
    ),
    TokenStrategy(
        "merge",
        "Merge pairs of similar tokens until the share is left.",
        "ToMe (arXiv 2210.09461)",
        SHARES,
        kinds=("tome", "random", "pool"),
        controls=("random", "pool"),
        drawn=("random",),
        counts=token_counts.merge_counts,
        options={"plain": FLAG},
    ),
    TokenStrategy(
        "masked",
        "Let attention read a share of the patches only.",
        "masked attention (arXiv 2404.18152), MaskCLIP* in Alpha-CLIP (arXiv 2312.03818, Table 2)",
        SHARES_OR_MASK,
        kinds=("mask", "attn", "random", "other", "inverted", "fill", "blur"),
        controls=("random", "other", "inverted", "fill", "blur"),
        drawn=("random",),
        options={"above": OptionRule("0")},
        needs={
            "mask": ("masks",),
            "other": ("other_masks",),
            "inverted": ("masks",),
            "fill": ("masks",),
            "blur": ("masks",),
        },
    ),
    TokenStrategy(
        "clusters",
        "Let patches attend only within clusters of equal size.",
        "semantic equitable clustering (arXiv 2405.13337), untrained",
        CLUSTERS,
        kinds=("equal", "random", "raster", "interleaved"),
        controls=("random", "raster", "interleaved"),
        drawn=("random",),
    ),
    TokenStrategy(
        "registers",
        "Append tokens that take over the activations of outlier neurons.",
        "test-time registers (arXiv 2506.08010), registers (arXiv 2309.16588)",
        COUNTS,
        kinds=("shift", "empty", "zero", "mean", "wrong"),
        controls=("empty", "zero", "mean", "wrong"),
        drawn=("wrong",),
        counts=token_counts.register_counts,
        layers=(),
        options={"neurons": OptionRule("10"), "scale": OptionRule("1")},
        needs=dict.fromkeys(("shift", "zero", "mean", "wrong"), ("neurons",)),
    ),
    TokenStrategy(
        "superpixels",
        "Pool tokens over regions of the picture, one token each.",
        "superpixel tokenization (arXiv 2408.07680), untrained",
        COUNTS,
        kinds=("slic", "voronoi", "grid", "rectangles", "shuffled"),
        controls=("voronoi", "grid", "rectangles", "shuffled"),
        drawn=("voronoi", "rectangles", "shuffled"),
        counts=token_counts.partition_counts,
        options={"compactness": OptionRule("10"), "plain": FLAG},
    ),
    TokenStrategy(
        "segments",
        "Pool tokens over the largest instances, and one token over all the rest.",
        "semantically meaningful tokens (arXiv 2405.16401), untrained",
        COUNTS,
        kinds=("mask", "shuffled", "other", "voronoi", "boxes"),
        controls=("shuffled", "other", "voronoi", "boxes"),
        drawn=("shuffled", "voronoi"),
        counts=token_counts.segment_counts,
        options={"plain": FLAG},
        needs={
            "mask": ("labels",),
            "shuffled": ("labels",),
            "other": ("other_labels",),
            "voronoi": ("labels",),
            "boxes": ("labels",),
        },
    ),
    TokenStrategy(
        "transmit",
        "Send only the tiles that score highest, and count the bytes.",
        "transformer-aided semantic communications (arXiv 2405.01521), untrained receivers",
        BUDGETS,
        kinds=("attn", "random", "centre", "lowest", "jpeg", "down"),
        controls=("random", "centre", "lowest", "jpeg", "down"),
        drawn=("random",),
        counts=token_counts.transmit_counts,
        layers=(),
        options={
            "coder": OptionRule("deflate", ("deflate", "jpeg")),
            "quality": OptionRule("75"),
            "receiver": OptionRule("mean", ("mean", "drop", "blur")),
        },
    ),
)

_STRATEGIES = {entry.name: entry for entry in _TABLE}


def token_strategy_names() -> tuple[str, ...]:
    """Return the names of all token strategies, sorted.

    >>> "select" in token_strategy_names()
    True
    """
    return tuple(sorted(_STRATEGIES))


def find_token_strategy(name: str) -> TokenStrategy:
    """Return the entry with this name.

    Raises:
        ConfigError: for an unknown name, with the nearest known ones.

    >>> find_token_strategy("merge").kinds
    ('tome', 'random', 'pool')
    """
    if name in _STRATEGIES:
        return _STRATEGIES[name]
    raise unknown("token strategy", name, token_strategy_names())


def unknown(what: str, name: str, known: tuple[str, ...], where: str | None = None) -> ConfigError:
    """Return the error for a name that is none of the known ones."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else None
    expected = f"one of {', '.join(known)}" if known else "none"
    return ConfigError(f"unknown {what}", where=where, found=repr(name), expected=expected, hint=hint)


def implementation(name: str) -> Any:
    """Import the module that runs a strategy; its `run(batch, setting)` returns an `Outcome`."""
    return importlib.import_module(f"semscale.tokens.strategies.{find_token_strategy(name).name}")
