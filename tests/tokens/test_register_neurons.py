"""Register neurons on a tower with planted ones, and on towers without."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor
from tower_zoo import ZOO, normalised, open_clip_tower, pictures, tower

from semscale.tokens import parse_setting
from semscale.tokens.batch import TokenBatch, TokenInputs
from semscale.tokens.register_neurons import SearchRule, find_register_neurons, neurons_from_json
from semscale.tokens.strategies.registers import neuron_change, register_tokens
from semscale.tokens.tower import Tower

BLOCK, UNIT, PLACES = 1, 17, (3, 11)


@cache
def planted() -> Tower:
    """A tower in which one neuron reads a direction that two positions have, and writes a long vector."""
    torch.manual_seed(5)
    visual = open_clip_tower()
    direction = torch.randn(48)
    direction = (direction - direction.mean()) / direction.std()
    with torch.no_grad():
        visual.positional_embedding.mul_(0.5)
        for position in PLACES:
            visual.positional_embedding[1 + position] += 3 * direction
        block = visual.transformer.resblocks[BLOCK]
        block.mlp.c_fc.weight[UNIT] = direction
        block.mlp.c_fc.bias[UNIT] = -20.0
        block.mlp.c_proj.weight[:, UNIT] = 40 * torch.nn.functional.normalize(torch.randn(48), dim=0)
    return Tower(visual.eval().requires_grad_(False))


def norms(text: str, inputs: TokenInputs, images: Tensor) -> Tensor:
    """Return norms of the patch tokens that leave the last block, [B, N]."""
    with torch.inference_mode():
        tokens = register_tokens(TokenBatch(planted(), normalised(images), inputs), parse_setting(text))[-1]
    return tokens[:, 1:].norm(dim=-1)


def test_the_planted_neuron_is_found_and_shifted() -> None:
    images = pictures(4)
    found = find_register_neurons(planted(), [normalised(images)], SearchRule(top=1))
    assert found.neurons == ((BLOCK, UNIT),)
    assert found.outliers == pytest.approx(2 / 25)
    assert "1 register neurons; 8.00% of tokens are outliers" in str(found)
    inputs = TokenInputs(images, neurons=neurons_from_json(found.to_json()))
    before = norms("registers:1/empty", inputs, images)
    outliers = torch.zeros(25, dtype=torch.bool)
    outliers[list(PLACES)] = True
    assert before[:, outliers].min() > 300
    assert before[:, ~outliers].max() < 30
    for text in ("registers:1", "registers:4", "registers:1/zero"):
        assert norms(text, inputs, images).max() < 30, text
    assert norms("registers:1/mean", inputs, images).min() > 30  # all have the mean
    for text in ("registers:1/wrong", "registers:1/wrong#1", "registers:2/wrong#5"):
        assert norms(text, inputs, images)[:, outliers].min() > 300, text


def test_every_image_gets_its_own_register_value() -> None:
    neurons = torch.randn(3, 7, 30)  # five tokens of the tower's own and two registers
    neurons[1, 2, 4] = -50.0
    (changed,) = neuron_change("shift", [4, 9], 5, 2.0)(None, (neurons,))
    own = neurons[:, :5][..., [4, 9]]
    largest = torch.stack([own[i, own[i].abs().argmax(0), [0, 1]] for i in range(3)])
    assert torch.equal(changed[:, 5][:, [4, 9]], 2 * largest)
    assert torch.equal(
        changed[:, 6], changed[:, 6].where(torch.tensor([u not in (4, 9) for u in range(30)]), changed[:, 5])
    )
    assert float(changed[1, 5, 4]) == -100.0
    assert len(changed[:, 5, 9].unique()) == 3
    assert not changed[:, :5][..., [4, 9]].any()
    others = [unit for unit in range(30) if unit not in (4, 9)]
    assert torch.equal(changed[..., others], neurons[..., others])


def test_the_register_rows_of_an_image_are_alike() -> None:
    images, seen = pictures(4), []
    found = find_register_neurons(planted(), [normalised(images)], SearchRule(top=1))
    last = planted().blocks[-1].attn.register_forward_hook(lambda _, args, __: seen.append(args[0][:, -3:]))
    try:
        norms("registers:3", TokenInputs(images, neurons=found), images)
    finally:
        last.remove()
    assert torch.equal(seen[0][:, 0], seen[0][:, 1])
    assert torch.equal(seen[0][:, 0], seen[0][:, 2])
    assert not torch.equal(seen[0][0], seen[0][1])


def test_matched_neurons_are_of_the_block_and_the_likest_activation() -> None:
    images = pictures(4)
    found = find_register_neurons(planted(), [normalised(images)], SearchRule(top=3, top_layer=1))
    activations: dict[int, Tensor] = {}
    hooks = [
        planted().down_projection(n).register_forward_pre_hook(lambda _, a, n=n: activations.__setitem__(n, a[0]))
        for n in range(2)
    ]
    with torch.inference_mode():
        planted().visual(normalised(images))
    for hook in hooks:
        hook.remove()
    for (block, unit), matched in zip(found.neurons, found.matched, strict=True):
        means = activations[block][:, 1:].mean((0, 1))
        taken = [other for number, other in found.neurons if number == block]
        free = [other for other in range(192) if other not in taken]
        best = min(free, key=lambda other: abs(float(means[other] - means[unit])))
        assert matched[0] == best
        assert not set(matched) & set(taken)


def test_a_search_may_go_by_a_norm_and_up_to_a_block() -> None:
    pixels = normalised(pictures(4))
    found = find_register_neurons(planted(), [pixels], SearchRule(top=2, threshold=100.0, top_layer=2))
    assert found.neurons[0] == (BLOCK, UNIT)
    assert find_register_neurons(planted(), [pixels], SearchRule(threshold=1e9)).neurons == ()
    parts = find_register_neurons(planted(), [pixels[:2], pixels[2:]], SearchRule(top=5))
    whole = find_register_neurons(planted(), [pixels], SearchRule(top=5))
    assert parts.neurons == whole.neurons
    assert parts.ratio == pytest.approx(whole.ratio)


@pytest.mark.parametrize("name", ZOO)
def test_ordinary_towers_have_no_outliers(name: str) -> None:
    found = find_register_neurons(tower(name), [normalised(pictures(4))])
    assert found.neurons == ()
    assert 1 < found.ratio < 4
    assert str(found).startswith("no outliers")
    assert not any(module._forward_pre_hooks for module in tower(name).visual.modules())
