"""Stems: what the patch embedding of a tower costs, and over how many tokens it spreads a pixel.

A plain patch embedding reads every pixel once, so a token is its cell. A stack of convolutions may not: taking away a
token of `semscale-mini` takes away little of what the picture shows, since its stem sees 39 of 40 pixels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def example_pixels(image_size: tuple[int, ...]) -> Tensor:
    """Return one image of noise, float32 [1, 3, H, W], always the same."""
    return torch.rand(1, 3, *image_size, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def stem_macs(stem: nn.Module, pixels: Tensor) -> int:
    """Return the multiply-adds of the convolutions and matrices of a stem for one image, counted as they run."""
    total = 0

    def count(module: Any, _: object, output: Tensor) -> None:
        nonlocal total
        total += output.numel() * (module.weight.numel() // module.weight.shape[0])

    layers = [module for module in stem.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        stem(pixels)
    finally:
        for hook in hooks:
            hook.remove()
    return total


@torch.no_grad()
def stem_spread(stem: nn.Module, pixels: Tensor, grid: tuple[int, int]) -> int:
    """Return how many patch tokens change at most when the pixels of one cell do: 1 for a plain patch embedding.

    Args:
        stem: the patch embedding; gives [1, C, rows, columns], [1, N, C] or [1, rows, columns, C].
        pixels: [1, 3, H, W], anything that is not flat.
        grid: rows and columns of patches.
    """
    height, width = pixels.shape[2] // grid[0], pixels.shape[3] // grid[1]
    before, changed = _tokens(stem(pixels), grid), 0
    for row, column in ((0, 0), (grid[0] // 2, grid[1] // 2)):
        edited = pixels.clone()
        edited[:, :, row * height : (row + 1) * height, column * width : (column + 1) * width].neg_().add_(1)
        changed = max(changed, int((_tokens(stem(edited), grid) != before).any(dim=1).sum()))
    return changed


def _tokens(output: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return a stem's output as [N, C]."""
    if output.ndim == 4 and tuple(output.shape[2:]) == grid:
        return output[0].flatten(1).T
    return output[0].flatten(0, -2)
