"""Renderer of the dataset `digits`: scikit-learn's 1,797 handwritten digits in random colours, sizes and positions.

The sources are 8 x 8 ink values 0 to 16 (E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998).
Unmodified, they are too easy for a study; rendered into scenes, they make size words true or false.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semscale.synthetic.scene import CANVAS, GroundTruth, compose, draw_palette

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DOMAIN = "digit"

_SPLIT_SEED = 20_250_312
_HEIGHTS = {"small": (17.0, 22.0), "medium": (27.0, 35.0), "large": (42.0, 58.0)}  # of a digit, in pixels
_GRAIN = 50.0


@lru_cache(maxsize=1)
def sources() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the (1797, 8, 8) ink values 0 to 255 and the (1797,) digits that they show."""
    # the file of sklearn.datasets.load_digits; importing scikit-learn would cost a second in every process
    package = find_spec("sklearn")
    assert package is not None and package.origin is not None  # noqa: PT018  # a dependency
    table = np.loadtxt(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",", dtype=int)
    ink = np.round(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return ink, table[:, -1].astype(np.int64)


@lru_cache(maxsize=2)
def split_indices(split: str) -> NDArray[np.int64]:
    """Return the sorted source indices of a split, half of each digit's sources; ``test`` is rounded down.

    >>> len(split_indices("train")), len(split_indices("test"))
    (901, 896)
    """
    _, target = sources()
    rng = np.random.default_rng(_SPLIT_SEED)
    test = np.zeros(len(target), bool)
    for digit in range(len(CLASSES)):
        members = np.flatnonzero(target == digit)
        test[rng.permutation(members)[: len(members) // 2]] = True
    return np.flatnonzero(test if split == "test" else ~test)


def render(source: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], GroundTruth]:
    """Render one source digit into a scene: uint8 (CANVAS, CANVAS, 3), and its ground truth."""
    ink, target = sources()
    size = ("small", "medium", "large")[int(rng.integers(3))]
    palette = draw_palette(rng)
    height = float(rng.uniform(*_HEIGHTS[size]))
    width = height * float(rng.uniform(0.75, 1.05))
    room = max(0.0, (CANVAS - height) / 2)
    centre = CANVAS / 2 + rng.uniform(-room, room, 2)
    mask = _transform(ink[source], width, height, centre, float(rng.uniform(-0.3, 0.3)), float(rng.uniform(-0.2, 0.2)))
    picture = compose(rng, mask, palette, _GRAIN)
    return picture, GroundTruth(CLASSES[int(target[source])], size, palette.name, 1)


def _transform(
    ink: NDArray[np.uint8], width: float, height: float, centre: NDArray[np.float64], turn: float, slant: float
) -> NDArray[np.float32]:
    # Pillow's affine transform maps output to input: from the canvas, undo position, turn and slant, scale to 8 x 8
    padded = Image.fromarray(np.pad(ink, 2))
    cos, sin = np.cos(turn), np.sin(turn)
    across = np.array([cos + slant * sin, -sin + slant * cos]) * (8 / width)
    down = np.array([sin, cos]) * (8 / height)
    middle = padded.width / 2
    # rounded, so that they do not depend on the machine's libm
    coefficients = np.round([*across, middle - across @ centre, *down, middle - down @ centre], 6)
    placed = padded.transform((CANVAS, CANVAS), Image.Transform.AFFINE, tuple(coefficients), Image.Resampling.BICUBIC)
    coverage = np.asarray(placed, np.float32) / 255
    return ((coverage - np.float32(0.15)) * np.float32(1.6)).clip(0, 1)
