"""Renderer of the dataset `shapes`: twelve procedural shapes in several sizes, colours and counts, filled or outlined.

Sizes make size words true or false, counts do so for plurals. An image is a function of its seed; the splits use
different seed families.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from semscale.synthetic.scene import CANVAS, GroundTruth, compose, draw_palette

Rings = tuple[NDArray[np.float64], ...]
"""One or two closed rings of (n, 2) points; a second one is a hole in the first."""


def _arc(radius: float, start: float, end: float, points: int, x: float = 0.0, y: float = 0.0) -> NDArray[np.float64]:
    angles = np.linspace(start, end, points)
    return np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1)


def _regular(corners: int) -> Rings:
    return (_arc(1.0, -np.pi / 2, 1.5 * np.pi, corners + 1)[:-1],)


def _star() -> Rings:
    angles = np.linspace(-np.pi / 2, 1.5 * np.pi, 11)[:-1]
    radii = np.where(np.arange(10) % 2 == 0, 1.0, 0.42)
    return (np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1),)


def _cross() -> Rings:
    a, b = 0.3, 0.95
    quarter = np.array([(-a, -b), (a, -b), (a, -a)])
    turns = [quarter @ np.array([[cos, sin], [-sin, cos]]) for cos, sin in ((1, 0), (0, 1), (-1, 0), (0, -1))]
    return (np.concatenate(turns),)


def _heart() -> Rings:
    t = np.linspace(0, 2 * np.pi, 41)[:-1]
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) - 2.5
    return (np.stack([x, y], 1) / 16.5,)


def _leaf() -> Rings:
    # two arcs that meet in two tips, and a short stem
    half = np.arccos(0.5)
    right = _arc(1.1, -half * 0.95, half * 0.95, 16, x=-0.55)
    left = _arc(1.1, np.pi - half * 0.95, np.pi + half * 0.95, 16, x=0.55)
    stem = np.array([(-0.07, 0.86), (-0.07, 1.15), (0.07, 1.15), (0.07, 0.86)])[::-1]
    return (np.concatenate([right, stem, left]) * 0.9,)


def _crescent() -> Rings:
    outer = _arc(0.98, 0.22 * np.pi, 1.78 * np.pi, 32)
    inner = _arc(0.78, 1.70 * np.pi, 0.30 * np.pi, 24, x=0.36)
    return (np.concatenate([outer, inner]),)


_ARROW = [(-1.0, -0.22), (0.1, -0.22), (0.1, -0.62), (1.0, 0.0), (0.1, 0.62), (0.1, 0.22), (-1.0, 0.22)]

OUTLINES: dict[str, Rings] = {
    "circle": (_arc(0.95, 0, 2 * np.pi, 40)[:-1],),
    "square": (np.array([(-0.78, -0.78), (0.78, -0.78), (0.78, 0.78), (-0.78, 0.78)]),),
    "triangle": _regular(3),
    "star": _star(),
    "cross": _cross(),
    "ring": (_arc(0.95, 0, 2 * np.pi, 40)[:-1], _arc(0.5, 0, 2 * np.pi, 32)[:-1]),
    "heart": _heart(),
    "arrow": (np.array(_ARROW),),
    "hexagon": _regular(6),
    "leaf": _leaf(),
    "crescent": _crescent(),
    "rhombus": (np.array([(0.0, -1.0), (0.58, 0.0), (0.0, 1.0), (-0.58, 0.0)]),),
}
"""Class name to rings, in the order of the dataset's classes."""
CLASSES = tuple(OUTLINES)
DOMAIN = "shape"

_RADII = {"small": (6.0, 8.0), "medium": (10.0, 12.5), "large": (15.5, 26.0)}  # in pixels
_LARGEST = {1: 26.0, 2: 17.0, 3: 15.5}  # number of copies -> maximum radius at which they fit side by side
_SUPERSAMPLING = 4
_GRAIN = 50.0
_PLACINGS = 64


def render(class_name: str, rng: np.random.Generator) -> tuple[NDArray[np.uint8], GroundTruth]:
    """Render one to three copies of a shape: uint8 (CANVAS, CANVAS, 3), and its ground truth."""
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
        turn = float(rng.uniform(0, 2 * np.pi))
        cos, sin = np.cos(turn), np.sin(turn)
        stretch = np.array([1.0, float(rng.uniform(0.85, 1.0))])
        basis = np.array([[cos, sin], [-sin, cos]]) * (radius * _SUPERSAMPLING)
        for depth, ring in enumerate(OUTLINES[class_name]):
            # integers, so that the last bits of a machine's sine do not move a pixel
            points = np.rint((ring * stretch) @ basis + centre * _SUPERSAMPLING).astype(int)
            corners = [(int(x), int(y)) for x, y in points]
            if filled:
                pen.polygon(corners, fill=255 if depth == 0 else 0)
            else:
                pen.line([*corners, *corners[:2]], fill=255, width=round(line * _SUPERSAMPLING), joint="curve")
    coverage = np.asarray(mask.reduce(_SUPERSAMPLING), np.float32) / np.float32(255)
    picture = compose(rng, coverage, palette, _GRAIN)
    return picture, GroundTruth(class_name, size, palette.name, count)


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
