"""Loader of the two datasets that come with semscale: synthetic images, drawn when they are read."""

from __future__ import annotations

from contextlib import suppress

from semscale.datasets.base import Entry, Notes, Options, Source
from semscale.datasets.class_from_path import choose_split
from semscale.synthetic import digits, shapes
from semscale.synthetic.numbered_images import SPLITS, class_of, encode_png, render

BUNDLED = ("digits", "shapes")
"""Specs of the bundled datasets: 1,797 handwritten digits in two halves, and procedural shapes of 12 classes."""

_SHAPES_SIZE = 1_200


class BundledReader:
    """Draws an image of a bundled dataset from its file name."""

    def read(self, place: str) -> bytes:
        """Return the PNG bytes of `place`, for example "digits/test/0012_seven.png". Raises FileNotFoundError."""
        with suppress(ValueError, KeyError, IndexError):
            name, split, leaf = place.split("/")
            number = int(leaf.partition("_")[0])
            if place == _file_name(name, split, number):
                return encode_png(render(name, split, number)[0])
        raise FileNotFoundError(f"no such image: {place}")


def open_source(name: str, options: Options) -> Source:
    """Open a bundled dataset: the half ``test``, which is studied, or ``train``, which the bundled model learnt."""
    notes = Notes()
    chosen = choose_split(SPLITS, options.split or "test", notes, name)
    return bundled_source(name, *(SPLITS if chosen is None else [chosen]))


def bundled_source(name: str, *splits: str, size: int | None = None) -> Source:
    """Return halves of a bundled dataset, `size` images of each: 901 and 896 digits and 1,200 shapes by default."""
    module = digits if name == "digits" else shapes
    sizes = {split: len(digits.split_indices(split)) if name == "digits" else _SHAPES_SIZE for split in splits}
    entries = (
        Entry(_file_name(name, split, number), label=class_of(name, split, number))
        for split in splits
        for number in range(size or sizes[split])
    )
    return Source(name, BundledReader(), entries, classes=module.CLASSES, domain=module.DOMAIN)


def _file_name(name: str, split: str, index: int) -> str:
    return f"{name}/{split}/{index:04d}_{class_of(name, split, index)}.png"
