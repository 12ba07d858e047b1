"""Costs against published figures, and token counts against the sequences that towers really have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from tower_zoo import ZOO, given, normalised, pictures, tower, trace

from semscale.common.errors import ConfigError
from semscale.tokens import TowerShape, block_macs, kept, level_cost, parse_setting, tower_macs
from semscale.tokens.levels import encode_levels
from semscale.tokens.token_counts import merge_schedule

B16 = TowerShape("ViT-B/16", 12, 768, 12, 3072, False, (14, 14), 1, True, False, False, (224, 224), 196 * 768 * 768, 1)


def gmacs(text: str, shape: TowerShape = B16) -> float:
    return level_cost(parse_setting(text), shape).macs / 1e9


@pytest.mark.parametrize(("share", "published"), [("0.9", 15.39), ("0.7", 11.61)])
def test_evit_costs_what_was_published(share: str, published: float) -> None:
    assert gmacs(f"select:{share}@3,6,9+fuse") == pytest.approx(published, rel=0.003)


@pytest.mark.parametrize(
    ("share", "before", "after_3", "after_6", "evit"),
    [
        ("0.9", 15.82, 16.31, 16.75, 15.39),
        ("0.7", 12.28, 13.77, 15.09, 11.61),
        ("0.5", 8.70, 11.20, 13.41, 8.82),
        ("0.25", 4.41, 8.10, 11.39, 6.53),
        ("0.1", 1.91, 6.30, 10.21, 5.63),
    ],
)
def test_the_table_of_selection(share: str, before: float, after_3: float, after_6: float, evit: float) -> None:
    texts = [f"select:{share}", f"select:{share}@3+after", f"select:{share}@6+after", f"select:{share}@3,6,9+fuse"]
    assert [round(gmacs(text), 2) for text in texts] == [before, after_3, after_6, evit]


def test_whole_towers() -> None:
    large = replace(B16, depth=24, width=1024, hidden=4096, grid=(16, 16), stem_macs=256 * 3 * 14 * 14 * 1024)
    huge = replace(B16, depth=32, width=1280, hidden=5120, grid=(16, 16), stem_macs=256 * 3 * 14 * 14 * 1280)
    wide = replace(large, grid=(24, 24), stem_macs=576 * 3 * 14 * 14 * 1024)
    small = replace(B16, grid=(7, 7), stem_macs=49 * 3 * 32 * 32 * 768)
    assert round(gmacs("select:1"), 2) == 17.56
    assert [round(gmacs("select:1", shape), 1) for shape in (small, large)] == [4.4, 81.0]
    assert [round(gmacs("select:1", shape)) for shape in (wide, huge)] == [191, 167]
    assert {gmacs(text) for text in ("masked:0.5/attn", "clusters:7", "registers:0")} == {gmacs("select:1")}


@pytest.mark.parametrize(("per_block", "cost", "left"), [(4, 15.32, 149), (8, 13.10, 101), (13, 10.37, 41)])
def test_the_table_of_merging(per_block: int, cost: float, left: int) -> None:
    found = level_cost(parse_setting(f"merge:{196 - 12 * per_block}/196"), B16)
    assert round(found.macs / 1e9, 2) == cost
    assert found.left == left


def test_sixteen_merges_per_block_end_at_eleven_tokens() -> None:
    tokens, counts = 197, []
    for _ in range(12):
        merged = min(16, (tokens - 1) // 2)
        counts.append((tokens, tokens - merged))
        tokens -= merged
    assert (round(tower_macs(B16, counts) / 1e9, 2), tokens) == (8.77, 11)


@pytest.mark.parametrize("share", ["0.9", "0.75", "0.5", "0.25", "0.04"])
def test_merging_ends_at_the_share(share: str) -> None:
    setting = parse_setting(f"merge:{share}")
    schedule = merge_schedule(setting.share, 25, 5)
    assert 25 - sum(schedule) == kept(setting.share, 25)
    assert all(0 <= merged <= (25 - sum(schedule[:i])) // 2 for i, merged in enumerate(schedule))


def test_merging_cannot_more_than_halve() -> None:
    with pytest.raises(ConfigError, match="so few tokens") as caught:
        merge_schedule(parse_setting("merge:0.1").share, 25, 2)
    assert "7/25" in str(caught.value)


SETTINGS = (
    "select:0.5", "select:0.5@1/radial", "select:0.7@1+after", "select:0.7@0,1,2+fuse", "select:0.3@1/norm+two-pass",
    "merge:0.5", "merge:0.3@1/random", "merge:0.25/pool", "masked:0.5/attn", "clusters:5", "registers:2/empty",
    "superpixels:9@1/voronoi", "segments:2", "transmit:0.4",
)  # fmt: skip


@pytest.mark.parametrize("name", ["timm-reg4", "timm-map", "conv-stem"])
@pytest.mark.parametrize("text", SETTINGS)
def test_counts_are_those_of_the_sequences(name: str, text: str) -> None:
    images, seen = pictures(), []
    found = tower(name)
    hooks = [
        block.attn.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1])) for block in found.blocks
    ]
    hooks += [
        found.down_projection(number).register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
        for number in range(found.depth)
    ]
    try:
        encode_levels(found, normalised(images), [parse_setting(text)], given(images))
    finally:
        for hook in hooks:
            hook.remove()
    counts = level_cost(parse_setting(text), found.shape).tokens
    # the last of them: a whole pass may have come first
    assert seen[-2 * found.depth :][1::2][-1] == counts[-1][1]
    start = parse_setting(text).layers[:1] or (0,)
    own = list(counts[start[0] :])
    assert seen[-2 * len(own) :] == [number for pair in own for number in pair]


def test_the_mini_towers_own_figures() -> None:
    shape = tower("conv-stem").shape
    assert (shape.patches, shape.prefix, shape.spread > 1) == (25, 0, True)
    assert shape.stem_macs == pytest.approx(6.7e6, rel=0.01)
    assert 3 * block_macs(shape, 25, 25) == pytest.approx(8.65e6, rel=0.001)


@pytest.mark.parametrize("name", ZOO)
def test_macs_of_the_blocks_are_those_of_their_matrices(name: str) -> None:
    shape = tower(name).shape
    total = 0
    for module in tower(name).blocks[0].modules():
        if isinstance(module, torch.nn.Linear) and module.weight.shape != (3 * shape.width, shape.width):
            total += module.weight.numel()
    matrices = total + 3 * shape.width**2  # queries, keys and values
    assert block_macs(shape, 10, 10) == 10 * matrices + 2 * 100 * shape.width


def counted(name: str, texts: Sequence[str]) -> int:
    """Return the multiply-adds of one picture at some levels, as torch counts them while they run."""
    images = pictures(1)
    with FlopCounterMode(display=False) as counter:
        trace(name, images, texts, given(images))
    return int(counter.get_total_flops()) // 2


@pytest.mark.parametrize("name", ["timm-cls", "conv-stem", "swiglu"])
def test_multiply_adds_are_those_that_torch_counts(name: str) -> None:
    shape = tower(name).shape
    projection = 32 * 48 if name != "conv-stem" else 96 * 96  # which papers do not count
    assert counted(name, ["select:1"]) == level_cost(parse_setting("select:1"), shape).macs + projection
    for text in ("select:0.3@1/radial", "select:0.2/random", "registers:2/empty"):
        assert counted(name, [text]) == level_cost(parse_setting(text), shape).macs + projection, text
    for text in ("select:0.5", "select:0.7@1+after", "select:0.7@0,1,2+fuse", "select:0.3@1+two-pass", "merge:0.5",
                 "masked:0.5/attn", "clusters:5", "transmit:0.5"):  # fmt: skip
        cost = level_cost(parse_setting(text), shape)
        # the rest is the projection, and zeros beside small matrices
        assert counted(name, [text]) == pytest.approx(cost.macs + cost.scoring_macs, rel=0.02), text


@pytest.mark.parametrize("name", ["timm-cls"])
@pytest.mark.parametrize("rest", ["", "@2/norm", "/random", "+two-pass"])
def test_a_ladder_costs_little_more_than_its_levels(name: str, rest: str) -> None:
    texts = [f"select:{share}{rest}" for share in ("1", "0.9", "0.7", "0.5", "0.35", "0.25", "0.15", "0.1", "0.05")]
    levels = sum(level_cost(parse_setting(text), tower(name).shape).macs for text in texts)
    assert counted(name, texts) <= 1.05 * levels
