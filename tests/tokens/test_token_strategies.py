"""What strategies must have in common with one another, and where they must differ."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from tower_zoo import LOCAL, ZOO, given, normalised, pictures, tower, trace

from semscale.tokens import parse_setting
from semscale.tokens.batch import TokenBatch, TokenInputs
from semscale.tokens.levels import encode_levels, trace_levels
from semscale.tokens.partitions import overlap, run_partition
from semscale.tokens.regions import voronoi_labels
from semscale.tokens.scores import highest
from semscale.tokens.strategies import clusters, masked, select
from semscale.tokens.strategies.merge import Pairing
from semscale.tokens.tower import Tower

CLOSE: Any = {"atol": 1e-5, "rtol": 0}


class MovedTower(Tower):
    """A tower whose patches are put into another order after their positions were added."""

    order = torch.randperm(25, generator=torch.Generator().manual_seed(3))

    def embed(self, pixels: Tensor) -> Tensor:
        tokens = super().embed(pixels)
        return torch.cat([tokens[:, : self.prefix], tokens[:, self.prefix :][:, self.order]], 1)


def flat_tower(name: str) -> Tower:
    """Return a tower without positions, on which a constant image gives equal tokens."""
    visual = copy.deepcopy(tower(name).visual)
    trunk = getattr(visual, "trunk", visual)
    table = trunk.positional_embedding if hasattr(trunk, "positional_embedding") else trunk.pos_embed
    table.data[..., -25:, :] = 0
    return Tower(visual)


def constant(count: int = 2) -> Tensor:
    return torch.tensor([[40, 90, 200], [220, 10, 60]], dtype=torch.uint8)[:count, None, None].expand(-1, 40, 40, -1)


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("text", ["0.5/attn", "0.2/random#1", "0.3/mask"])
def test_dropping_before_the_first_block_is_masking_from_it_on(name: str, text: str) -> None:
    images = pictures()
    settings = [parse_setting(f"select:{text}"), parse_setting(f"masked:{text}")]
    drop, mask = trace_levels(tower(name), normalised(images), settings, given(images))
    if not text.endswith("mask"):  # ties of the mask are settled by distance there
        assert torch.equal(drop.kept, mask.kept)
        torch.testing.assert_close(drop.features, mask.features, **CLOSE)
    assert not torch.equal(
        drop.features, encode_levels(tower(name), normalised(images), [parse_setting("select:1")])[0]
    )


@pytest.mark.parametrize("name", ["avg", "timm-map", "timm-max", "conv-stem"])
@torch.inference_mode()
def test_pools_read_the_kept_patches_only(name: str) -> None:
    images, found = pictures(), tower(name)
    (outcome,) = trace_levels(found, normalised(images), [parse_setting("masked:0.5/attn")])
    mask = masked.key_mask(outcome.kept, found.prefix)
    over_all = found.finish(found.run(found.embed(normalised(images)), 0, mask=mask))
    assert (outcome.features - over_all).abs().max() > 0.01


@pytest.mark.parametrize("name", ["tok", "avg", "timm-reg4", "timm-map"])
@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("select:0.5", True),
        ("select:0.5@1/norm", True),
        ("select:0.5/meancos", True),
        ("select:0.7@0,1,2+fuse", True),
        ("select:0.4+two-pass", True),
        ("clusters:4", True),
        ("registers:2", True),
        ("registers:1/empty", True),
        ("clusters:4/raster", False),
        ("merge:0.5", False),
    ],
)
def test_the_order_of_the_patches_matters_where_it_should(name: str, text: str, same: bool) -> None:
    images = pictures()
    moved = MovedTower(tower(name).visual)
    settings = [parse_setting(text)]
    (plain,) = encode_levels(tower(name), normalised(images), settings, given(images))
    (found,) = encode_levels(moved, normalised(images), settings, given(images))
    if same:
        torch.testing.assert_close(found, plain, **CLOSE)
    else:
        assert (found - plain).abs().max() > 1e-3


@pytest.mark.parametrize("name", ZOO)
@torch.inference_mode()
def test_regions_may_be_named_and_ordered_in_any_way(name: str) -> None:
    images, found = pictures(), tower(name)
    batch = TokenBatch(found, normalised(images))
    labels = torch.stack([torch.from_numpy(voronoi_labels(batch.draws("x", i, 1600)[i], 9, 40, 40)) for i in range(3)])
    names = torch.tensor([4, 8, 0, 1, 7, 2, 6, 3, 5])
    setting = parse_setting("superpixels:9")
    first = run_partition(batch, setting, overlap(labels, 9, (5, 5))).features
    renamed = run_partition(batch, setting, overlap(names[labels], 9, (5, 5))).features
    torch.testing.assert_close(renamed, first, **CLOSE)
    moved = TokenBatch(MovedTower(found.visual), normalised(images))
    columns = overlap(labels, 9, (5, 5))[:, :, MovedTower.order]
    torch.testing.assert_close(run_partition(moved, setting, columns).features, first, **CLOSE)


@pytest.mark.parametrize("name", ["tok", "avg", "timm-cls", "timm-map", "qk-norm"])
@torch.inference_mode()
def test_tokens_that_are_there_twice_count_twice(name: str) -> None:
    found = tower(name)
    tokens = found.embed(normalised(pictures()))
    prefix, patches = tokens[:, : found.prefix], tokens[:, found.prefix :]
    twice = found.finish(found.run(torch.cat([prefix, patches, patches], 1), 0))
    mask = torch.full((1, 1, 1, tokens.shape[1]), math.log(2))
    mask[..., : found.prefix] = 0
    torch.testing.assert_close(found.finish(found.run(tokens, 0, mask=mask)), twice, **CLOSE)


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize("text", ["merge:0.5", "merge:0.3/random#2", "superpixels:7/voronoi", "merge:0.25/pool"])
def test_merging_equal_tokens_changes_nothing(name: str, text: str) -> None:
    settings = [parse_setting("select:1"), parse_setting(text), parse_setting(f"{text}+plain")]
    own, merged, plain = encode_levels(flat_tower(name), normalised(constant()), settings)
    torch.testing.assert_close(merged, own, **CLOSE)
    if tower(name).prefix:  # without other tokens to attend to, all weights are those of equal keys
        assert (plain - own).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["tok", "avg", "timm-reg4", "timm-map"])
def test_with_equal_keys_any_clusters_of_the_same_sizes_are_alike(name: str) -> None:
    settings = [parse_setting(f"clusters:5/{kind}") for kind in ("equal", "random", "raster", "interleaved")]
    found = encode_levels(flat_tower(name), normalised(constant()), settings)
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], **CLOSE)


@pytest.mark.parametrize("count", [1, 2, 4, 7, 25])
@pytest.mark.parametrize("kind", ["equal", "random", "raster", "interleaved"])
def test_clusters_are_of_equal_size(count: int, kind: str) -> None:
    found = tower("timm-reg4")
    batch = TokenBatch(found, normalised(pictures()))
    owner = clusters.cluster_numbers(batch, parse_setting(f"clusters:{count}/{kind}"), 1, batch.hidden(1))
    sizes = torch.nn.functional.one_hot(owner, count).sum(2)
    assert int(sizes.max() - sizes.min()) <= 1
    assert int(sizes.sum(-1).unique()) == 25
    mask = clusters.cluster_mask(owner, found.prefix)
    hidden = (mask == -torch.inf).sum(-1)
    assert not hidden[..., : found.prefix].any()
    assert not (mask[..., : found.prefix] == -torch.inf).any()
    assert torch.equal(hidden[..., found.prefix :], 25 - sizes.gather(2, owner))


def test_shares_of_one_score_are_nested() -> None:
    shares = ("0.05", "0.1", "0.25", "0.5", "0.7", "0.9")
    for kind in ("@1/attn", "@1/norm", "/random#3", "/radial", "@1/meancos+two-pass"):
        settings = [parse_setting(f"select:{share}{kind}") for share in shares]
        found = [outcome.kept for outcome in trace_levels(tower("tok"), normalised(pictures()), settings)]
        for smaller, larger in itertools.pairwise(found):
            assert not (smaller & ~larger).any(), kind
        assert [int(kept[0].sum()) for kept in found] == [2, 3, 7, 13, 18, 23]


def test_the_middle_the_stride_and_ties() -> None:
    settings = [
        parse_setting("select:0.04/radial"),
        parse_setting("select:0.36/radial"),
        parse_setting("select:0.2/stride"),
    ]
    middle, ring, stride = (
        outcome.kept[0].nonzero()[:, 0].tolist()
        for outcome in trace_levels(tower("tok"), normalised(pictures()), settings)
    )
    assert middle == [12]
    assert ring == [6, 7, 8, 11, 12, 13, 16, 17, 18]
    assert stride == [2, 7, 12, 17, 22]
    assert highest(torch.zeros(2, 5), 3).tolist() == [[0, 1, 2]] * 2
    settings = [parse_setting(f"select:0.2/{kind}") for kind in ("attn", "norm", "meancos")]
    flat = trace_levels(flat_tower("tok"), normalised(constant()), settings)
    assert all(outcome.kept[:, :5].all() for outcome in flat)


def test_a_given_mask_scores_by_what_it_covers() -> None:
    images = pictures()
    masks = torch.zeros(3, 40, 40, dtype=torch.bool)
    masks[:, 8:16, 16:32] = True  # two cells whole
    masks[:, 16:20, 16:24] = True  # a third by half
    inputs = TokenInputs(images, masks, masks.roll(16, 1))
    texts = [
        "select:0.12/mask",
        "masked:0",
        "masked:0+above=0.6",
        "masked:0/inverted",
        "masked:0/random#1",
        "masked:0/other",
    ]
    texts += ["masked:0.2/mask", "masked:0.2/inverted"]
    found = trace("tok", images, texts, inputs)
    kept = [outcome.kept[0].nonzero()[:, 0].tolist() for outcome in found]
    assert kept[0] == kept[1] == [7, 8, 12]
    assert kept[2] == [7, 8]
    assert kept[3] == [i for i in range(25) if i not in (7, 8, 12)]
    assert len(kept[4]) == 3
    assert kept[4] != kept[1]
    assert kept[5] == [17, 18, 22]
    assert set(kept[6]) > {7, 8, 12}
    assert len(kept[7]) == 5
    assert not set(kept[7]) & set(kept[6])


def test_an_image_without_an_object_stays_whole() -> None:
    images = pictures()
    inputs = TokenInputs(images, torch.zeros(3, 40, 40))
    settings = [parse_setting(text) for text in ("select:1", "masked:0", "masked:0/random", "masked:0/fill")]
    own, *others = encode_levels(tower("avg"), normalised(images), settings, inputs)
    for other in others:
        torch.testing.assert_close(other, own, **CLOSE)


def test_pixels_outside_of_the_mask_are_edited_and_no_others() -> None:
    images, inputs = pictures(), given(pictures())
    settings = [parse_setting(f"masked:{text}") for text in ("0/fill", "0/blur", "0.4/fill", "0.4/blur")]
    for setting, outcome in zip(
        settings, trace_levels(tower("tok"), normalised(images), settings, inputs), strict=True
    ):
        same = (outcome.images == images).all(-1)
        inside = (
            inputs.masks
            if setting.level == "0"
            else outcome.kept.reshape(3, 5, 5).repeat_interleave(8, 1).repeat_interleave(8, 2)
        )
        assert same[inside].all()
        assert same[~inside].float().mean() < 0.1


def test_fused_tokens_are_weighted_sums() -> None:
    patches, weights = torch.randn(2, 4, 3), torch.rand(2, 4)
    positions = torch.tensor([[0, 1, 3], [1, 2, 3]])
    expected = torch.stack([weights[0, 2] * patches[0, 2], weights[1, 0] * patches[1, 0]])[:, None]
    assert torch.equal(select.fused_token(patches, weights, positions), expected)


def test_pairs_are_averaged_by_size_and_every_patch_finds_its_token() -> None:
    values = torch.tensor([[[1.0], [10.0], [2.0], [20.0], [3.0], [30.0], [4.0]]])
    pairing = Pairing(torch.tensor([[3, 0]]), torch.tensor([[1, 1]]), torch.tensor([[1, 2]]))
    assert pairing.sums(values)[0, :, 0].tolist() == [2, 3, 10, 25, 30]
    assert pairing.positions(7).tolist() == [[3, 2, 0, 3, 1, 4, 3]]


def test_merging_takes_the_most_similar_pairs() -> None:
    found = tower("tok")
    images = pictures()
    (outcome,) = trace_levels(found, normalised(images), [parse_setting("merge:0.92@2")])  # two pairs in the last block
    keys = found.keys(2, found.run(found.embed(normalised(images)), 0, 2))
    keys = torch.nn.functional.normalize(keys.mean(1)[:, 1:], dim=-1)
    likeness = keys[:, ::2] @ keys[:, 1::2].transpose(1, 2)
    for i in range(3):
        best = likeness[i].max(1)
        for position in best.values.topk(2).indices.tolist():
            assert outcome.owner[i, 2 * position] == outcome.owner[i, 2 * int(best.indices[position]) + 1]
        assert len(outcome.owner[i].unique()) == 23


@pytest.mark.parametrize("name", ZOO)
def test_what_must_not_be_the_same(name: str) -> None:
    texts = ["select:1", "registers:1/empty", "clusters:25", "clusters:2", "superpixels:25/voronoi", "segments:2"]
    images = pictures()
    own, *others = encode_levels(
        tower(name), normalised(images), [parse_setting(text) for text in texts], given(images)
    )
    for text, other in zip(texts[1:], others, strict=True):
        assert (other - own).abs().max() > 1e-3, text
