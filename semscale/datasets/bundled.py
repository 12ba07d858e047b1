"""Loader of the two bundled datasets: synthetic images, rendered when they are read."""

from __future__ import annotations

from contextlib import suppress

from semscale.datasets.class_from_path import choose_split
from semscale.datasets.dataset import DatasetListing, DatasetOptions, ListedImage, ListingWarnings
from semscale.synthetic import digits, shapes
from semscale.synthetic.numbered_images import SPLITS, class_of, encode_png, render

BUNDLED = ("digits", "shapes")
"""Specs of the bundled datasets: 1,797 handwritten digits in two halves, and procedural shapes of 12 classes."""

_SHAPES_SIZE = 1_200


class BundledReader:
    """Reader that renders an image of a bundled dataset from its file name."""

    def read(self, location: str) -> bytes:
        """Return the PNG bytes of `location`, for example "digits/test/0012_seven.png". Raises FileNotFoundError."""
        with suppress(ValueError, KeyError, IndexError):
            name, split, leaf = location.split("/")
            number = int(leaf.partition("_")[0])
            if location == _file_name(name, split, number):
                return encode_png(render(name, split, number)[0])
        raise FileNotFoundError(f"no such image: {location}")


def open_listing(name: str, options: DatasetOptions) -> DatasetListing:
    """Open a bundled dataset: the split ``test``, for studies, or ``train``, on which the bundled model was trained."""
    warnings = ListingWarnings()
    split = choose_split(SPLITS, options.split or "test", warnings, name)
    return bundled_listing(name, *(SPLITS if split is None else [split]))


def bundled_listing(name: str, *splits: str, size: int | None = None) -> DatasetListing:
    """Return splits of a bundled dataset, `size` images each: 901 and 896 digits and 1,200 shapes by default."""
    module = digits if name == "digits" else shapes
    sizes = {split: len(digits.split_indices(split)) if name == "digits" else _SHAPES_SIZE for split in splits}
    entries = (
        ListedImage(_file_name(name, split, number), label=class_of(name, split, number))
        for split in splits
        for number in range(size or sizes[split])
    )
    return DatasetListing(name, BundledReader(), entries, classes=module.CLASSES, domain=module.DOMAIN)


def _file_name(name: str, split: str, index: int) -> str:
    return f"{name}/{split}/{index:04d}_{class_of(name, split, index)}.png"
