"""The two datasets that come with semscale: synthetic images, drawn when they are read."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

from semscale.datasets.base import Dataset
from semscale.datasets.samples import Sample, SampleTable
from semscale.synthetic import digits, shapes
from semscale.synthetic.images import class_of, encode_png, render

BUNDLED = ("digits", "shapes")
"""Names that load_bundled knows."""

_SHAPES_SIZE = 1_200


class BundledReader(NamedTuple):
    """Draws an image of a bundled dataset from its file name; only two short strings travel to a worker."""

    name: str
    split: str

    def read(self, place: str) -> bytes:
        """Return the PNG bytes of `place`, for example "digits/test/0012_seven.png"."""
        number = place.rpartition("/")[2].partition("_")[0]
        with suppress(IndexError):
            if number.isdecimal() and place == _file_name(self.name, self.split, int(number)):
                return encode_png(render(self.name, self.split, int(number))[0])
        raise FileNotFoundError(f"no such image in {self.name}/{self.split}: {place}")


def _file_name(name: str, split: str, index: int) -> str:
    return f"{name}/{split}/{index:04d}_{class_of(name, split, index)}.png"


@lru_cache(maxsize=8)
def load_bundled(name: str, split: str = "test", size: int | None = None) -> Dataset:
    """Return a bundled dataset; no image is drawn before its bytes are read.

    Args:
        name: "digits" (1,797 handwritten digits in two halves) or "shapes" (procedural, 12 classes).
        split: "test", the half that is studied, or "train", the half that the bundled model learns from.
        size: number of images, 896 (901) digits and 1,200 shapes by default; shapes have no upper limit.

    >>> digits_test = load_bundled("digits")
    >>> len(digits_test.samples), digits_test.samples[0].file
    (896, 'digits/test/0000_zero.png')
    """
    module = digits if name == "digits" else shapes
    if size is None:
        size = len(digits.split_indices(split)) if name == "digits" else _SHAPES_SIZE
    samples = (Sample(_file_name(name, split, i), class_of(name, split, i)) for i in range(size))
    table = SampleTable.of(module.CLASSES, samples)
    return Dataset(name, module.DOMAIN, module.CLASSES, table, BundledReader(name, split))
