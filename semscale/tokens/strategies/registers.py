"""Test-time registers: appended tokens take over what outlier neurons would write into patches (arXiv 2506.08010).

`shift` appends n tokens that are zero before the first normalisation; at each register neuron their activation becomes
the largest of the image's tokens, times `scale`, and that of all other tokens 0. They leave before the pool. The
largest in magnitude is taken with its sign: for GELU that is the paper's maximum, and gated MLPs have negative ones
too.

Controls: `empty` appends the tokens and shifts nothing (not neutral); `zero` and `mean` take the neurons away without a
register; `wrong` shifts neurons of the same block and the likest mean activation, others with every seed.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from semscale.common.errors import ModelError
from semscale.tokens.batch import Outcome, TokenBatch
from semscale.tokens.register_neurons import RegisterNeurons
from semscale.tokens.setting import TokenSetting
from semscale.tokens.tower import Tower

_APPENDS = ("shift", "empty", "wrong")


def required_layers(setting: TokenSetting, tower: Tower) -> frozenset[int]:
    """Return the blocks whose unmodified inputs are needed."""
    return frozenset({0})


def run(batch: TokenBatch, setting: TokenSetting) -> Outcome:
    """Return the features of the images with registers.

    Raises:
        ModelError: the tower has no outliers, so there is nothing to shift.
    """
    return Outcome(batch.tower.finish(register_tokens(batch, setting)[-1]))


def register_tokens(batch: TokenBatch, setting: TokenSetting) -> list[Tensor]:
    """Return what leaves each block, without the appended tokens, [B, P + N, C] each.

    Raises:
        ModelError: the tower has no outliers, so there is nothing to shift.
    """
    tower, kind = batch.tower, setting.kind
    tokens = batch.hidden(0)
    length, left = tokens.shape[1], []
    if kind in _APPENDS:
        tokens = torch.cat([tokens, tower.blank(tokens, int(setting.share))], 1)
    with ExitStack() as hooks:
        if kind != "empty":
            for number, units in _units(batch.require("neurons", "register neurons"), setting).items():
                change = neuron_change(kind, units, length, float(setting.option("scale")))
                hook = tower.down_projection(number).register_forward_pre_hook(change)
                hooks.callback(hook.remove)
        for number in range(tower.depth):
            tokens = tower.block(number, tokens)
            left.append(tokens[:, :length])
    return left


def _units(found: RegisterNeurons, setting: TokenSetting) -> dict[int, list[int]]:
    """Return the units to change, by block."""
    if not found.neurons:
        hint = "leave out `registers` for this model"
        raise ModelError("the tower has no register neurons", found=str(found), expected="outliers", hint=hint)
    units: dict[int, list[int]] = {}
    neurons = zip(found.neurons, found.matched, strict=True)
    for (number, unit), matched in list(neurons)[: int(float(setting.option("neurons")))]:
        taken = units.setdefault(number, [])
        if setting.kind != "wrong":
            taken.append(unit)
        elif free := [other for other in matched if other not in taken]:
            taken.append(free[setting.seed % len(free)])
    return units


def neuron_change(kind: str, units: list[int], length: int, scale: float) -> Any:
    """Return a hook before an MLP's last matrix that changes some of its neurons.

    Args:
        kind: the setting's kind.
        units: the neurons.
        length: how many tokens are the tower's own; those after them are registers.
        scale: of what registers get.
    """

    def change(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        neurons = inputs[0].clone()
        own = neurons[:, :length][..., units]
        if kind == "mean":
            neurons[:, :length, units] = own.mean(1, keepdim=True).expand_as(own)
            return (neurons,)
        if kind != "zero":
            # per image and per neuron: a batch must not share its first image's values
            largest = own.gather(1, own.abs().argmax(1, keepdim=True))
            neurons[:, length:, units] = (largest * scale).expand(-1, neurons.shape[1] - length, -1)
        neurons[:, :length, units] = 0
        return (neurons,)

    return change
