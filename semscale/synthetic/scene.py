"""Scenes of digits and shapes: canvas, contrasting palettes, backgrounds and grain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CANVAS = 64
"""Side of every bundled image, in pixels."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (205, 45, 40),
    "orange": (235, 135, 35),
    "yellow": (235, 205, 55),
    "green": (50, 150, 70),
    "blue": (45, 90, 195),
    "purple": (130, 60, 160),
    "pink": (235, 135, 175),
    "brown": (120, 75, 45),
    "black": (25, 25, 30),
    "white": (240, 240, 238),
    "grey": (130, 132, 135),
}
_NAMES = tuple(COLOURS)
_VALUES = np.array(list(COLOURS.values()), np.float32)
_SATURATION = 0.55  # of backgrounds: lower than of foregrounds
_MIN_DISTANCE = 120.0  # between foreground and background, in RGB units, so that people can recognise every image


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """Ground truth of an image, for captions: `count` copies of a class in a size and a colour.

    The size is "small", "medium" or "large", the colour a key of COLOURS.
    """

    class_name: str
    size: str
    colour: str
    count: int


@dataclass(frozen=True, slots=True)
class Palette:
    """Foreground colour with its name, and the two colours of a background."""

    name: str
    front: NDArray[np.float32]
    back: NDArray[np.float32]
    back_end: NDArray[np.float32]


def draw_palette(rng: np.random.Generator) -> Palette:
    """Return a foreground colour and two background colours that contrast with it."""
    front = int(rng.integers(len(_NAMES)))
    shade = _VALUES[front] + rng.uniform(-14, 14, 3).astype(np.float32)
    candidates = rng.uniform(10, 245, (16, 3)).astype(np.float32)
    grey = candidates.mean(1, keepdims=True)
    candidates = grey + _SATURATION * (candidates - grey)
    distances = np.minimum(np.linalg.norm(candidates - shade, axis=1), _MIN_DISTANCE)
    first, second = np.argsort(-distances, kind="stable")[:2]  # the first two that are distant enough
    return Palette(_NAMES[front], shade.clip(0, 255), candidates[first], candidates[second])


def draw_background(rng: np.random.Generator, palette: Palette) -> NDArray[np.float32]:
    """Return a background, float32 (CANVAS, CANVAS, 3): plain, a gradient, two halves or stripes."""
    kind = int(rng.integers(4))
    angle = float(rng.uniform(0, 2 * np.pi))
    if kind == 0:
        return np.broadcast_to(palette.back, (CANVAS, CANVAS, 3)).astype(np.float32)
    axis = np.linspace(-1, 1, CANVAS, dtype=np.float32)
    ramp = axis[None, :] * np.float32(np.cos(angle)) + axis[:, None] * np.float32(np.sin(angle))
    if kind == 1:
        weight = (ramp * 0.5 + 0.5).clip(0, 1)
    elif kind == 2:
        weight = ((ramp - np.float32(rng.uniform(-0.5, 0.5))) * 16).clip(0, 1)
    else:
        # a triangle wave: the last bits of numpy's sine differ between processors, and with them a few pixels
        phase = ramp * np.float32(rng.uniform(1.0, 2.2))
        wave = 4 * np.abs(phase - np.floor(phase + np.float32(0.5))) - 1
        weight = (wave * 5).clip(-1, 1) * np.float32(0.25) + np.float32(0.25)
    mixed: NDArray[np.float32] = palette.back + weight[..., None] * (palette.back_end - palette.back)
    return mixed


def compose(
    rng: np.random.Generator, mask: NDArray[np.float32], palette: Palette, strength: float
) -> NDArray[np.uint8]:
    """Composite a palette's foreground over a background through a mask and add grain: uint8 (CANVAS, CANVAS, 3).

    The mask is coverage 0 to 1, (CANVAS, CANVAS); strength is the maximum half-width of the grain, of 255.
    """
    background = draw_background(rng, palette)
    picture = background + mask[..., None] * (palette.front - background)
    grain = rng.integers(-128, 128, picture.shape, dtype=np.int8)
    picture = picture + grain * np.float32(rng.uniform(0, strength) / 128)
    return (picture + np.float32(0.5)).clip(0, 255).astype(np.uint8)
