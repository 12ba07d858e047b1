"""The view of towers: it computes what they compute, refuses what it does not know, and takes masks of floats only."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import timm
import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from timm.models.eva import Eva
from torch import Tensor, nn
from tower_zoo import LOCAL, ZOO, normalised, open_clip_tower, pictures, timm_tower, tower

from semscale.common.errors import ConfigError, ModelError
from semscale.tokens import parse_setting
from semscale.tokens.levels import check_setting, encode_levels, stem_note
from semscale.tokens.tower import Tower


@pytest.mark.parametrize("name", ZOO)
@torch.inference_mode()
def test_a_loop_over_blocks_is_the_towers_forward(name: str) -> None:
    found, pixels = tower(name), normalised(pictures())
    assert torch.equal(found.finish(found.run(found.embed(pixels), 0)), found.visual(pixels))


def weights_of(found: Tower, tokens: Tensor) -> Tensor:
    """Return the attention of the first block as the model's own code computes it, [B, L, L], mean over heads."""
    block, seen = found.blocks[0], []
    if isinstance(block.attn, nn.MultiheadAttention):
        normed = block.ln_1(tokens)
        weights: Tensor = block.attn(normed, normed, normed, need_weights=True)[1]
        return weights
    hook = block.attn.attn_drop.register_forward_hook(lambda *args: seen.append(args[2]))
    block.attn.fused_attn = False
    try:
        block(tokens)
    finally:
        hook.remove()
        block.attn.fused_attn = True
    return seen[0].mean(1)


@pytest.mark.parametrize("name", [name for name in ZOO if name != "qk-norm"])
@torch.inference_mode()
def test_attention_is_that_of_the_models_own_code(name: str) -> None:
    found = tower(name)
    tokens = found.embed(normalised(pictures()))
    weights = weights_of(found, tokens)[:, :, found.prefix :]
    reads_class_token = name in ("tok", "timm-cls", "timm-reg4", "swiglu")
    expected = weights[:, 0] if reads_class_token else weights[:, found.prefix :].mean(1)
    torch.testing.assert_close(found.attention_received(0, tokens), expected)


@torch.inference_mode()
def test_the_probe_of_a_latent_pool_reads_what_it_says() -> None:
    found, pixels = tower("timm-map"), normalised(pictures())
    last = found.run(found.embed(pixels), 0)
    weights = found.probe_attention(last)
    torch.testing.assert_close(weights.sum(1), torch.ones(3))
    # a patch with nearly no weight hardly changes the result, the heaviest one does
    changes = []
    for position in (weights.argmin(1), weights.argmax(1)):
        edited = last.clone()
        edited[torch.arange(3), position] = edited.mean(1)
        changes.append((found.finish(edited) - found.finish(last)).norm())
    assert changes[0] < changes[1]


@pytest.mark.parametrize("name", ZOO)
def test_masks_of_booleans_are_refused(name: str) -> None:
    found = tower(name)
    tokens = found.embed(normalised(pictures()))
    length = tokens.shape[1]
    with pytest.raises(TypeError, match="floats"):
        found.attend(0, tokens, torch.ones(1, 1, length, length, dtype=torch.bool))


@pytest.mark.parametrize("name", ZOO)
@torch.inference_mode()
def test_masks_of_every_shape_mean_the_same(name: str) -> None:
    found = tower(name)
    tokens = found.embed(normalised(pictures()))
    length = tokens.shape[1]
    mask = torch.zeros(3, 1, 1, length)
    mask[:, :, :, found.prefix + 3] = -torch.inf
    results = [
        found.attend(1, tokens, each)
        for each in (mask, mask[:1], mask.expand(3, found.heads, length, length), mask.double())
    ]
    assert all(torch.equal(result, results[0]) for result in results)
    assert not torch.equal(results[0], found.attend(1, tokens))


def test_stems_that_spread_pixels_are_noticed() -> None:
    assert {tower(name).shape.spread for name in LOCAL} == {1}
    shape = tower("conv-stem").shape
    assert 9 <= shape.spread <= 25
    assert str(shape.spread) in stem_note(shape)
    assert not stem_note(tower("tok").shape)
    with pytest.raises(ConfigError, match="more than their tile"):
        check_setting(parse_setting("transmit:0.5+receiver=drop"), shape)


def behind_timm_model(trunk: nn.Module) -> nn.Module:
    model = TimmModel.__new__(TimmModel)
    nn.Module.__init__(model)
    model.trunk, model.head = trunk, nn.Sequential()
    return model


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return behind_timm_model(timm.create_model(name, num_classes=0))


REFUSED: dict[str, Callable[[], nn.Module]] = {
    "ModifiedResNet": partial(ModifiedResNet, (1, 1, 1, 1), 32, 8, image_size=64, width=8),
    "ConvNeXt": partial(on_meta, "convnext_atto"),
    "SwinTransformer": partial(on_meta, "swin_tiny_patch4_window7_224"),
    "FastVit": partial(on_meta, "fastvit_t8"),
    "VisionTransformerDistilled": partial(on_meta, "deit_tiny_distilled_patch16_224"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_towers_are_refused_by_name(name: str) -> None:
    with pytest.raises(ModelError, match="cannot act on this image tower") as caught:
        Tower(REFUSED[name]())
    assert f"class {name}" in str(caught.value)


def test_rotary_positions_and_unknown_pools_are_refused() -> None:
    rotary = Eva(img_size=28, patch_size=14, embed_dim=32, depth=1, num_heads=2, num_classes=0, use_rot_pos_emb=True)
    with pytest.raises(ModelError, match="image tower") as caught:
        encode_levels(behind_timm_model(rotary), torch.zeros(1, 3, 28, 28), [parse_setting("select:0.5")])
    assert "class Eva" in str(caught.value)
    with pytest.raises(ModelError) as caught:
        Tower(open_clip_tower(attentional_pool=True, attn_pooler_heads=4))
    assert "CoCa" in str(caught.value)
    with pytest.raises(ModelError) as caught:
        Tower(timm_tower(global_pool="prr"))
    assert "'prr'" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("select:0.5@3", "0 to 2"),
        ("clusters:26", "at most 25"),
        ("merge:0.04", "a share of at least 4/25"),
        ("transmit:900+receiver=drop", "another receiver"),
        ("masked:0/attn", "a share above 0"),
        ("select:0.5/mask", "the input 'masks'"),
        ("registers:1", "the input 'neurons'"),
        ("superpixels:1601/voronoi", "1 to 1600"),
    ],
)
def test_settings_that_do_not_fit_are_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        encode_levels(tower("tok"), normalised(pictures()), [parse_setting(text)])
    assert words in str(caught.value)
