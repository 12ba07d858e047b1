"""Segments: tokens pooled over the M largest instances of given label maps, and one token over all the rest.

The untrained form of semantically meaningful tokens (after arXiv 2405.16401): without its relations, and with the
tower's own patch tokens. Controls: `shuffled`, the cells of the same regions scattered; `other`, another image's
instances; `voronoi`, round regions of the same areas at random positions; `boxes`, the instances' bounding boxes. Where
an image has fewer instances, the attention masks out the tokens that are left over.
"""

from __future__ import annotations

import numpy as np
import torch

from semscale.tokens.batch import Outcome, TokenBatch
from semscale.tokens.partitions import overlap, run_partition
from semscale.tokens.regions import blob_labels, box_labels, largest_instances
from semscale.tokens.setting import TokenSetting
from semscale.tokens.strategies.superpixels import shuffled_cells


def run(batch: TokenBatch, setting: TokenSetting) -> Outcome:
    """Return the features of the images with one token per instance and one for the rest."""
    count = int(setting.share)
    given = batch.require("other_labels" if setting.kind == "other" else "labels", "a label map for every image")
    maps = [largest_instances(one, count) for one in given.cpu().numpy()]
    if setting.kind == "boxes":
        maps = [box_labels(one, count) for one in maps]
    if setting.kind == "voronoi":
        draws = batch.draws("blobs", setting.seed, count)
        maps = [blob_labels(one, row, count) for one, row in zip(maps, draws, strict=True)]
    labels = torch.from_numpy(np.stack(maps))
    weights = overlap(labels, count + 1, batch.tower.grid)
    if setting.kind == "shuffled":
        weights, labels = shuffled_cells(batch, setting, weights, labels)
    return run_partition(batch, setting, weights, labels)
