"""The outlines of the twelve shapes: closed rings of points around the origin, as far out as radius 1."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Rings = tuple[NDArray[np.float64], ...]
"""One or two closed rings of (n, 2) points; where two, the second is a hole in the first."""


def _arc(radius: float, start: float, end: float, points: int, x: float = 0.0, y: float = 0.0) -> NDArray[np.float64]:
    angles = np.linspace(start, end, points)
    return np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1)


def _regular(corners: int) -> Rings:
    return (_arc(1.0, -np.pi / 2, 1.5 * np.pi, corners + 1)[:-1],)


def _circle() -> Rings:
    return (_arc(0.95, 0, 2 * np.pi, 40)[:-1],)


def _ring() -> Rings:
    return _arc(0.95, 0, 2 * np.pi, 40)[:-1], _arc(0.5, 0, 2 * np.pi, 32)[:-1]


def _star() -> Rings:
    angles = np.linspace(-np.pi / 2, 1.5 * np.pi, 11)[:-1]
    radii = np.where(np.arange(10) % 2 == 0, 1.0, 0.42)
    return (np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1),)


def _cross() -> Rings:
    a, b = 0.3, 0.95
    corners = [
        (-a, -b),
        (a, -b),
        (a, -a),
        (b, -a),
        (b, a),
        (a, a),
        (a, b),
        (-a, b),
        (-a, a),
        (-b, a),
        (-b, -a),
        (-a, -a),
    ]
    return (np.array(corners),)


def _heart() -> Rings:
    t = np.linspace(0, 2 * np.pi, 41)[:-1]
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) - 2.5
    return (np.stack([x, y], 1) / 16.5,)


def _arrow() -> Rings:
    corners = [(-1.0, -0.22), (0.1, -0.22), (0.1, -0.62), (1.0, 0.0), (0.1, 0.62), (0.1, 0.22), (-1.0, 0.22)]
    return (np.array(corners),)


def _leaf() -> Rings:
    # Two arcs that meet in two tips, and a short stem.
    half = np.arccos(0.5)
    right = _arc(1.1, -half * 0.95, half * 0.95, 16, x=-0.55)
    left = _arc(1.1, np.pi - half * 0.95, np.pi + half * 0.95, 16, x=0.55)
    stem = np.array([(-0.07, 0.86), (-0.07, 1.15), (0.07, 1.15), (0.07, 0.86)])[::-1]
    return (np.concatenate([right, stem, left]) * 0.9,)


def _crescent() -> Rings:
    outer = _arc(0.98, 0.22 * np.pi, 1.78 * np.pi, 32)
    inner = _arc(0.78, 1.70 * np.pi, 0.30 * np.pi, 24, x=0.36)
    return (np.concatenate([outer, inner]),)


def _rhombus() -> Rings:
    return (np.array([(0.0, -1.0), (0.58, 0.0), (0.0, 1.0), (-0.58, 0.0)]),)


_MAKERS: dict[str, Callable[[], Rings]] = {
    "circle": _circle,
    "square": lambda: (np.array([(-0.78, -0.78), (0.78, -0.78), (0.78, 0.78), (-0.78, 0.78)]),),
    "triangle": lambda: _regular(3),
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "heart": _heart,
    "arrow": _arrow,
    "hexagon": lambda: _regular(6),
    "leaf": _leaf,
    "crescent": _crescent,
    "rhombus": _rhombus,
}

OUTLINES: dict[str, Rings] = {name: make() for name, make in _MAKERS.items()}
"""Class name to rings, in the order of the dataset's classes."""
