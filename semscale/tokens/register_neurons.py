"""Register neurons: the MLP neurons that write the outlier tokens of an image tower (arXiv 2506.08010).

Some towers turn a few patch tokens into outliers of many times the usual norm, on patches that say little, and use them
as notes about the whole image (arXiv 2309.16588). :func:`find_register_neurons` looks for the neurons that do so on
calibration images, and says so where there are none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from semscale.tokens.tower import Tower

MATCHES = 16
"""How many neurons of like activation are kept for each register neuron, for the control `wrong`."""


@dataclass(frozen=True)
class RegisterNeurons:
    """Register neurons, the result of a search.

    Attributes:
        neurons: (block, unit) of each register neuron, the strongest first; none where there are no outliers.
        matched: for each of them units of the same block that are none, those of the likest mean activation first.
        ratio: largest over median norm of the patch tokens, averaged over images, at the block where it is largest.
        layer: that block.
        outliers: share of the patch tokens that are outliers there.
    """

    neurons: tuple[tuple[int, int], ...]
    matched: tuple[tuple[int, ...], ...]
    ratio: float
    layer: int
    outliers: float

    def __str__(self) -> str:
        if self.neurons:
            return f"{len(self.neurons)} register neurons; {self.outliers:.2%} of tokens are outliers"
        return f"no outliers: the largest norm of a patch token is {self.ratio:.2f} times the median"

    @property
    def digest(self) -> str:
        """SHA-256 of the neurons, for fingerprints."""
        return hashlib.sha256(json.dumps([self.neurons, self.matched]).encode()).hexdigest()

    def to_json(self) -> str:
        """Return all of it as JSON, which :func:`neurons_from_json` reads."""
        return json.dumps(asdict(self))


def neurons_from_json(text: str) -> RegisterNeurons:
    """Read what :meth:`RegisterNeurons.to_json` wrote.

    >>> found = RegisterNeurons(((1, 17),), ((3, 4),), 8.0, 2, 0.02)
    >>> neurons_from_json(found.to_json()) == found
    True
    """
    content = json.loads(text)
    neurons = tuple((int(block), int(unit)) for block, unit in content.pop("neurons"))
    matched = tuple(tuple(map(int, units)) for units in content.pop("matched"))
    return RegisterNeurons(neurons, matched, **content)


@dataclass(frozen=True)
class SearchRule:
    """Rule of the search: the definition of an outlier, and the blocks to search.

    Attributes:
        top: how many neurons to return at most.
        sigma: standard deviations above the mean norm of an image's patch tokens from which a token is an outlier.
        least_ratio: the largest norm must also be so many times the median: among 200 tokens of an ordinary tower some
            are always three deviations out.
        threshold: a norm instead of `sigma`, as the paper gives for its models (75 for OpenCLIP's ViT-B/16).
        top_layer: the last block whose neurons are looked at; unless given, the first with outliers.
    """

    top: int = 10
    sigma: float = 3.0
    least_ratio: float = 4.0
    threshold: float | None = None
    top_layer: int | None = None


@torch.inference_mode()
def find_register_neurons(tower: Tower, batches: Iterable[Tensor], rule: SearchRule | None = None) -> RegisterNeurons:
    """Find the neurons that are most active on outlier tokens, averaged over calibration images.

    Norms are those of the residual stream before any final normalisation, after every block; neurons are taken after
    their activation (arXiv 2506.08010). Activations keep their sign until they are averaged.

    Args:
        tower: the image tower.
        batches: pixels [B, 3, H, W] of calibration images; read twice, so a list.
        rule: what counts as an outlier.

    Returns:
        The neurons, none where the tower has no outliers; its text says so.
    """
    rule, batches = rule or SearchRule(), list(batches)
    images = sum(map(len, batches))
    ratios = sum((_norm_ratios(tower, pixels).sum(1) for pixels in batches), torch.zeros(tower.depth)) / images
    layer = int(ratios.argmax())
    ratio = float(ratios[layer])
    if ratio < rule.least_ratio:
        return RegisterNeurons((), (), ratio, layer, 0.0)
    first = int((ratios >= rule.least_ratio).nonzero()[0, 0])
    top_layer = first if rule.top_layer is None else rule.top_layer
    sums = _Sums(top_layer + 1)
    for pixels in batches:
        sums.add(tower, pixels, layer, rule)
    if not sums.images:
        return RegisterNeurons((), (), ratio, layer, 0.0)
    scores = torch.stack([total / sums.images for total in sums.on_outliers]).abs()
    order = scores.flatten().argsort(descending=True, stable=True)[: rule.top].tolist()
    neurons = tuple(divmod(position, scores.shape[1]) for position in order)
    means = [total / images for total in sums.on_all]
    return RegisterNeurons(neurons, _matches(neurons, means), ratio, layer, sums.outliers / (images * tower.patches))


def _norm_ratios(tower: Tower, pixels: Tensor) -> Tensor:
    """Return largest over median norm of each image's patch tokens after every block, float32 [depth, B]."""
    tokens, rows = tower.embed(pixels), []
    for number in range(tower.depth):
        tokens = tower.block(number, tokens)
        norms = tokens[:, tower.prefix :].float().norm(dim=-1)
        rows.append((norms.amax(1) / norms.median(1).values).cpu())
    return torch.stack(rows)


class _Sums:
    """Sums of the neurons' activations, on outliers and on all patches, per block."""

    def __init__(self, blocks: int) -> None:
        self.blocks, self.images, self.outliers = blocks, 0, 0
        self.on_outliers: list[Any] = [0.0] * blocks
        self.on_all: list[Any] = [0.0] * blocks

    def add(self, tower: Tower, pixels: Tensor, layer: int, rule: SearchRule) -> None:
        seen: list[Tensor] = []

        def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen.append(inputs[0][:, tower.prefix :].float())

        hooks = [tower.down_projection(number).register_forward_pre_hook(keep) for number in range(self.blocks)]
        try:
            tokens = tower.run(tower.embed(pixels), 0, max(layer + 1, self.blocks))
        finally:
            for hook in hooks:
                hook.remove()
        if layer + 1 < self.blocks:
            tokens = tower.run(tower.embed(pixels), 0, layer + 1)
        norms = tokens[:, tower.prefix :].float().norm(dim=-1)
        limit = norms.mean(1, keepdim=True) + rule.sigma * norms.std(1, keepdim=True)
        out = norms > (limit if rule.threshold is None else rule.threshold)
        counts = out.sum(1)
        with_any = counts > 0
        self.images += int(with_any.sum())
        self.outliers += int(counts.sum())
        for number, activations in enumerate(seen):
            means = (activations * out[..., None]).sum(1) / counts.clamp(min=1)[:, None]
            self.on_outliers[number] = self.on_outliers[number] + means[with_any].double().sum(0).cpu()
            self.on_all[number] = self.on_all[number] + activations.mean(1).double().sum(0).cpu()


def _matches(neurons: tuple[tuple[int, int], ...], means: list[Tensor]) -> tuple[tuple[int, ...], ...]:
    """Return for each neuron the units of its block that are no register neurons, by likeness of mean activation."""
    found = []
    for block, unit in neurons:
        away = (means[block] - means[block][unit]).abs()
        away[[other for number, other in neurons if number == block]] = torch.inf
        order = away.argsort(stable=True)[: min(MATCHES, int(away.isfinite().sum()))]
        found.append(tuple(order.tolist()))
    return tuple(found)
