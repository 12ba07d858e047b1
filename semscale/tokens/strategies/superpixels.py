"""Superpixels: tokens pooled over k regions of the picture that follow its edges (after arXiv 2408.07680, untrained).

`slic` superpixels of the pixels, exactly k of them. Controls with as many regions: `voronoi` cells of random sites,
an even `grid`, random `rectangles`, and `shuffled`, SLIC's regions with the cells of the picture scattered, so that
sizes stay and positions do not. A grid of as many cells as there are patches is the unmodified tower.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from semscale.tokens.batch import Outcome, TokenBatch
from semscale.tokens.partitions import overlap, run_partition
from semscale.tokens.regions import grid_labels, rectangle_labels, slic_labels, voronoi_labels
from semscale.tokens.setting import TokenSetting


def run(batch: TokenBatch, setting: TokenSetting) -> Outcome:
    """Return the features of the images with one token per superpixel."""
    labels = superpixel_labels(batch, setting)
    weights = overlap(labels, int(setting.share), batch.tower.grid)
    if setting.kind == "shuffled":
        weights, labels = shuffled_cells(batch, setting, weights, labels)
    return run_partition(batch, setting, weights, labels)


def superpixel_labels(batch: TokenBatch, setting: TokenSetting) -> Tensor:
    """Return the regions of every image before any shuffling, int64 [B, H, W] on the CPU."""
    count, kind, seed = int(setting.share), setting.kind, setting.seed
    height, width = batch.tower.image_size

    def make() -> Tensor:
        if kind == "grid":
            return torch.from_numpy(grid_labels(count, height, width)).expand(len(batch), -1, -1)
        if kind == "voronoi":
            draws = batch.draws("sites", seed, height * width)
            return torch.from_numpy(np.stack([voronoi_labels(row, count, height, width) for row in draws]))
        if kind == "rectangles":
            draws = batch.draws("cuts", seed, count)
            return torch.from_numpy(np.stack([rectangle_labels(row, count, height, width) for row in draws]))
        compactness = float(setting.option("compactness"))
        pictures = batch.images.numpy()
        return torch.from_numpy(np.stack([slic_labels(picture, count, compactness) for picture in pictures]))

    # shuffled labels are those of slic, at any seed and any layer
    same = "slic" if kind == "shuffled" else kind
    return batch.remember((same, count, setting.option("compactness"), 0 if same == "slic" else seed), make)


def shuffled_cells(batch: TokenBatch, setting: TokenSetting, weights: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights [B, S, N] and labels [B, H, W] with the cells of each image at random positions."""
    (rows, columns), (height, width) = batch.tower.grid, batch.tower.cell
    order = batch.shuffles("cells", setting.seed, batch.tower.patches).to(weights.device)
    weights = weights.gather(2, order[:, None].expand_as(weights))
    cells = labels.reshape(len(batch), rows, height, columns, width).transpose(2, 3).flatten(1, 2)
    cells = cells.gather(1, order.cpu()[..., None, None].expand_as(cells))
    cells = cells.reshape(-1, rows, columns, height, width).transpose(2, 3)
    return weights, cells.reshape(labels.shape)
