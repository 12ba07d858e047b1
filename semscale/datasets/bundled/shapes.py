"""The dataset `shapes`: twelve procedural shapes in several sizes, colours, turns and counts, filled or outlined.

Sizes make size words true or false of an image, counts do the same for plurals. Every image is a function of the seed
alone; the test half and the training half use different seed families.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from semscale.datasets.bundled.outlines import OUTLINES
from semscale.datasets.bundled.scene import CANVAS, Truth, compose, draw_palette

CLASSES = tuple(OUTLINES)
DOMAIN = "shape"

_RADII = {"small": (6.0, 8.0), "medium": (10.0, 12.5), "large": (15.5, 26.0)}  # in pixels
_LARGEST = {1: 26.0, 2: 17.0, 3: 15.5}  # copies of this radius still find room beside each other
_SUPERSAMPLING = 4
_GRAIN = 50.0
_PLACINGS = 64


def render(class_name: str, rng: np.random.Generator) -> tuple[NDArray[np.uint8], Truth]:
    """Draw one to three copies of a shape into a scene: everything but the class comes from `rng`.

    Returns:
        (CANVAS, CANVAS, 3) colour values, and what is true of the image.
    """
    size = ("small", "medium", "large")[int(rng.integers(3))]
    count = int(rng.choice(4, p=(0, 0.5, 0.25, 0.25)))
    palette = draw_palette(rng)
    low, high = _RADII[size]
    radius = float(rng.uniform(low, max(low, min(high, _LARGEST[count]))))
    filled = bool(rng.uniform() < 0.6)
    line = max(1.4, radius * float(rng.uniform(0.12, 0.2)))
    mask = Image.new("L", (CANVAS * _SUPERSAMPLING,) * 2)
    pen = ImageDraw.Draw(mask)
    for centre in _centres(rng, count, radius):
        _draw_copy(pen, class_name, centre, radius, float(rng.uniform(0, 2 * np.pi)), None if filled else line, rng)
    coverage = np.asarray(mask.reduce(_SUPERSAMPLING), np.float32) / np.float32(255)
    picture = compose(rng, coverage, palette, _GRAIN)
    return picture, Truth(class_name, size, palette.name, count)


def _centres(rng: np.random.Generator, count: int, radius: float) -> NDArray[np.float64]:
    room = CANVAS / 2 - min(radius + 1, CANVAS / 2 - 2)
    layouts: NDArray[np.float64] = CANVAS / 2 + rng.uniform(-room, room, (_PLACINGS, count, 2))
    chosen = 0
    if count > 1:
        left, right = np.triu_indices(count, 1)
        gaps = np.linalg.norm(layouts[:, left] - layouts[:, right], axis=2).min(1)
        enough = gaps >= 2 * radius  # copies that do not overlap, or else those that overlap least
        chosen = int(np.argmax(enough if enough.any() else gaps))
    centres: NDArray[np.float64] = layouts[chosen]
    return centres


def _draw_copy(
    pen: ImageDraw.ImageDraw,
    class_name: str,
    centre: NDArray[np.float64],
    radius: float,
    turn: float,
    line: float | None,
    rng: np.random.Generator,
) -> None:
    cos, sin = np.cos(turn), np.sin(turn)
    stretch = np.array([1.0, float(rng.uniform(0.85, 1.0))])
    basis = np.array([[cos, sin], [-sin, cos]]) * (radius * _SUPERSAMPLING)
    for depth, ring in enumerate(OUTLINES[class_name]):
        # Whole numbers: a last-bit difference between machines' sines must not move a pixel.
        points = np.rint((ring * stretch) @ basis + centre * _SUPERSAMPLING).astype(int)
        corners = [(int(x), int(y)) for x, y in points]
        if line is None:
            pen.polygon(corners, fill=255 if depth == 0 else 0)
        else:
            pen.line([*corners, corners[0], corners[1]], fill=255, width=round(line * _SUPERSAMPLING), joint="curve")
