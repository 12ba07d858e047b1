"""The unmodified level is the tower's own forward to the last bit, and nothing of a level stays behind."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from tower_zoo import ZOO, given, normalised, pictures, tower

from semscale.common.errors import ModelError
from semscale.tokens import parse_setting
from semscale.tokens.batch import TokenBatch
from semscale.tokens.levels import encode_levels, trace_levels
from semscale.tokens.partitions import run_partition
from semscale.tokens.register_neurons import RegisterNeurons
from semscale.tokens.tower import Tower

IDENTITIES = (
    "select:1", "select:1@2/random#3", "select:1@0,1,2+fuse", "merge:1", "merge:1/pool", "masked:1", "masked:1/blur",
    "clusters:1", "clusters:1/random", "registers:0", "registers:0/zero", "superpixels:0", "superpixels:25/grid",
    "segments:0", "transmit:1", "transmit:1+receiver=drop",
)  # fmt: skip
CHANGES = (
    "select:0.5", "select:0.5@1/meancos", "select:0.7@0,1,2+fuse", "select:0.7@1+after",
    "select:0.4@1/norm+two-pass", "select:0.4@2+two-pass", "select:0.3/random#1", "select:0.3/radial",
    "select:0.3@1/stride", "select:0.3/lowest", "select:0.3/mask", "merge:0.5", "merge:0.5@1/random#2+plain",
    "merge:0.25/pool", "masked:0.5/attn", "masked:0@1", "masked:0.4@2/random#1", "masked:0/random",
    "masked:0.3/other", "masked:0/inverted", "masked:0/fill", "masked:0.5/blur", "clusters:5",
    "clusters:4@1/random#1", "clusters:3/raster", "clusters:25/interleaved", "registers:1/empty", "registers:2",
    "registers:1/zero", "registers:1/mean", "registers:1/wrong#1", "superpixels:9/voronoi#1",
    "superpixels:30@1/rectangles", "superpixels:8/grid+plain", "segments:2", "segments:3/boxes",
    "segments:2@1/voronoi#2", "segments:2/shuffled#1", "segments:1/other+plain", "transmit:0.5",
    "transmit:0.3/random#2", "transmit:2500/centre", "transmit:0.5/lowest+receiver=blur", "transmit:1+coder=jpeg",
    "transmit:0.5/jpeg", "transmit:0.3/down",
)  # fmt: skip
ALL = tuple(parse_setting(text) for text in CHANGES)


@pytest.mark.parametrize("name", ZOO)
def test_the_unmodified_level_is_the_towers_own_forward(name: str) -> None:
    images = pictures()
    pixels, visual = normalised(images), tower(name).visual
    with torch.inference_mode():
        own = visual(pixels)
    for text in IDENTITIES:
        (found,) = encode_levels(visual, pixels, [parse_setting(text)], given(images))
        assert torch.equal(found, own), text


@pytest.mark.parametrize("name", ["tok", "timm-reg4", "timm-map", "conv-stem"])
def test_levels_together_are_the_levels_alone(name: str) -> None:
    images = pictures()
    pixels, inputs = normalised(images), given(images)
    together = encode_levels(tower(name), pixels, [parse_setting("select:1"), *ALL], inputs)
    with torch.inference_mode():
        assert torch.equal(together[0], tower(name).visual(pixels))
    for setting, found in zip(ALL, together[1:], strict=True):
        (alone,) = encode_levels(tower(name), pixels, [setting], inputs)
        assert torch.equal(found, alone), setting.text
        assert found.isfinite().all()
        assert not torch.equal(found, together[0]), setting.text


@pytest.fixture
def one_thread() -> Iterator[None]:
    """With several threads the bits of timm's own latent pool depend on the position in the batch."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", ["tok", "timm-map", "conv-stem"])
def test_neighbours_change_nothing(name: str, one_thread: None) -> None:
    images, others = pictures(), pictures(seed=9)
    mixed = torch.stack([others[0], images[0], others[2]])
    inputs, order = given(images), [1, 0, 2]
    mine = encode_levels(tower(name), normalised(images), ALL, inputs)
    moved = type(inputs)(
        mixed,
        *(getattr(inputs, key)[order] for key in ("masks", "other_masks", "labels", "other_labels")),
        inputs.neurons,
    )
    theirs = encode_levels(tower(name), normalised(mixed), ALL, moved)
    alone = type(inputs)(
        images[:1],
        *(getattr(inputs, key)[:1] for key in ("masks", "other_masks", "labels", "other_labels")),
        inputs.neurons,
    )
    single = trace_levels(tower(name), normalised(images[:1]), ALL, alone)
    for setting, a, b, c in zip(ALL, mine, theirs, single, strict=True):
        assert torch.equal(a[0], b[1]), setting.text
        torch.testing.assert_close(c.features[0], a[0], atol=2e-5, rtol=1e-5)


def test_random_kinds_draw_from_the_image_alone() -> None:
    settings = [parse_setting(f"select:0.3/random#{seed}") for seed in range(3)]
    images = pictures(3)
    whole = trace_levels(tower("tok"), normalised(images), settings)
    single = trace_levels(tower("avg"), normalised(images[2:]), settings)
    for a, b in zip(whole, single, strict=True):
        assert torch.equal(a.kept[2], b.kept[0])
    sets = [outcome.kept for outcome in whole]
    assert not torch.equal(sets[0], sets[1])
    assert not torch.equal(sets[0][0], sets[0][1])


@pytest.mark.parametrize("name", ["tok", "timm-reg4"])
def test_pixels_are_embedded_once_and_early_blocks_run_once(name: str) -> None:
    found, calls = tower(name), []
    hooks = [block.attn.register_forward_hook(lambda *_, n=n: calls.append(n)) for n, block in enumerate(found.blocks)]
    hooks.append(found.stem().register_forward_hook(lambda *_: calls.append("stem")))
    assert found.shape.depth == 3  # looks at the stem once
    calls.clear()
    settings = [parse_setting(f"select:{share}@2") for share in ("1", "0.7", "0.5", "0.25", "0.1")]
    try:
        encode_levels(found, normalised(pictures()), settings)
    finally:
        for hook in hooks:
            hook.remove()
    assert calls == ["stem", 0, 1, 2, 2, 2, 2, 2]


def test_an_exception_leaves_no_hook() -> None:
    images = pictures()
    pixels, found = normalised(images), tower("tok")
    with torch.inference_mode():
        own = found.visual(pixels)

    def fail(*_: object) -> None:
        raise RuntimeError("in the midst of it")

    last = found.blocks[-1].attn.register_forward_hook(fail)
    inputs = given(images)
    for text in ("registers:1", "registers:0"):
        with pytest.raises(RuntimeError):
            encode_levels(found, pixels, [parse_setting(text), parse_setting("select:0.5@2")], inputs)
    last.remove()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in found.visual.modules())
    with torch.inference_mode():
        assert torch.equal(found.visual(pixels), own)


@pytest.mark.parametrize("name", ["tok", "avg", "timm-map"])
def test_an_image_whose_regions_are_its_patches_is_unmodified(name: str) -> None:
    images = pictures()
    batch = TokenBatch(tower(name), normalised(images))
    weights = torch.eye(25).repeat(3, 1, 1)
    weights[1] = weights[1].roll(1, 0)  # the same regions, named otherwise
    with torch.inference_mode():
        found = run_partition(batch, parse_setting("superpixels:25"), weights).features
        own = batch.own_forward()
    assert torch.equal(found[0], own[0])
    assert torch.equal(found[2], own[2])
    torch.testing.assert_close(found[1], own[1], atol=1e-5, rtol=0)


def test_without_outliers_registers_say_so() -> None:
    images = pictures()
    none = type(given(images))(neurons=RegisterNeurons((), (), 1.2, 2, 0.0))
    with pytest.raises(ModelError, match="no register neurons") as caught:
        encode_levels(tower("tok"), normalised(images), [parse_setting("registers:1")], none)
    assert "no outliers: the largest norm of a patch token is 1.20 times the median" in str(caught.value)


def test_a_tower_made_before_and_a_module_are_the_same() -> None:
    pixels, settings = normalised(pictures()), [parse_setting("select:0.5")]
    visual: nn.Module = tower("timm-cls").visual
    assert torch.equal(encode_levels(visual, pixels, settings)[0], encode_levels(Tower(visual), pixels, settings)[0])


@pytest.mark.parametrize("name", ["tok", "timm-map"])
def test_levels_keep_the_towers_precision(name: str) -> None:
    images = pictures()
    half = Tower(copy.deepcopy(tower(name).visual).to(torch.bfloat16))
    found = encode_levels(half, normalised(images).to(torch.bfloat16), ALL, given(images))
    for setting, features in zip(ALL, found, strict=True):
        assert features.dtype == torch.bfloat16, setting.text
        assert features.isfinite().all()
    radial = [parse_setting("select:0.3/radial"), parse_setting("superpixels:9/voronoi")]
    low = encode_levels(half, normalised(images).to(torch.bfloat16), radial, given(images))
    full = encode_levels(tower(name), normalised(images), radial)
    for one, other in zip(low, full, strict=True):
        torch.testing.assert_close(one.float(), other, atol=0.15, rtol=0.05)
