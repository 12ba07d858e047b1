"""Numbered images of the synthetic datasets: their halves, seeds, classes and pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from semscale.synthetic import digits, shapes
from semscale.synthetic.scene import Truth

SPLITS = ("train", "test")

_SEEDS = {("digits", "train"): 101, ("digits", "test"): 102, ("shapes", "train"): 201, ("shapes", "test"): 202}


def class_of(name: str, split: str, index: int) -> str:
    """Return the class of an image: shapes take turns, digits follow their sources."""
    if name == "shapes":
        return shapes.CLASSES[index % len(shapes.CLASSES)]
    _, target = digits.sources()
    return digits.CLASSES[int(target[digits.split_indices(split)[index]])]


def render(name: str, split: str, index: int, variant: int = 0) -> tuple[NDArray[np.uint8], Truth]:
    """Draw image `index` of a synthetic dataset.

    Args:
        name: "digits" or "shapes".
        split: "train" or "test".
        index: number of the image within its half.
        variant: 0 is the dataset's image; other numbers redraw the same source (digits) or class (shapes) afresh.

    Returns:
        (64, 64, 3) colour values, and what is true of the image.
    """
    seed = [_SEEDS[name, split], index] if variant == 0 else [_SEEDS[name, split], index, variant]
    rng = np.random.default_rng(seed)
    if name == "shapes":
        return shapes.render(class_of(name, split, index), rng)
    return digits.render(int(digits.split_indices(split)[index]), rng)
