from __future__ import annotations

import hashlib
import io
import pickle
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from semscale.datasets.bundled import BUNDLED, bundled_listing
from semscale.datasets.loader_registry import load_dataset
from semscale.synthetic import digits, shapes
from semscale.synthetic.numbered_images import SPLITS, encode_png, render
from semscale.synthetic.scene import COLOURS


@pytest.mark.parametrize(("name", "images", "classes"), [("digits", 896, 10), ("shapes", 1200, 12)])
def test_test_split_has_unique_files_and_every_class(name: str, images: int, classes: int) -> None:
    dataset = load_dataset(name)
    assert (dataset.name, dataset.domain) == (name, name.removesuffix("s"))
    assert len(dataset.samples) == len({sample.file for sample in dataset.samples}) == images
    assert len(dataset.classes) == classes
    assert {sample.true_class for sample in dataset.samples} == set(dataset.classes)


def test_shapes_are_balanced_and_digits_stratified() -> None:
    assert set(Counter(s.true_class for s in load_dataset("shapes").samples).values()) == {100}
    counts = {split: Counter(s.true_class for s in load_dataset("digits", split=split).samples) for split in SPLITS}
    assert all(0 <= counts["train"][c] - counts["test"][c] <= 1 for c in digits.CLASSES)


def test_splits_are_disjoint_and_together_have_every_digit() -> None:
    train, test = (set(digits.split_indices(split).tolist()) for split in SPLITS)
    assert not train & test
    assert train | test == set(range(1797))
    drawn = {split: {render("shapes", split, index)[0].tobytes() for index in range(60)} for split in SPLITS}
    assert not drawn["train"] & drawn["test"]


@pytest.mark.parametrize("name", BUNDLED)
def test_reader_survives_pickling_and_reads_the_same_bytes_in_any_order(name: str) -> None:
    dataset = load_dataset(name)
    reader = pickle.loads(pickle.dumps(dataset.reader))
    files = [sample.file for sample in dataset.samples[:20]]
    forwards = [dataset.reader.read(file) for file in files]
    backwards = [reader.read(file) for file in reversed(files)]
    assert forwards == backwards[::-1]
    assert len(set(forwards)) == len(files)
    image = Image.open(io.BytesIO(forwards[0]))
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", (64, 64))


@pytest.mark.parametrize(("name", "expected"), [("digits", "37f7da28889259a6"), ("shapes", "95a9306d5fd10191")])
def test_bytes_are_those_with_which_the_shipped_weights_were_evaluated(name: str, expected: str) -> None:
    dataset = load_dataset(name)
    digest = hashlib.sha256()
    for sample in dataset.samples[::40]:
        digest.update(dataset.reader.read(sample.file))
    assert digest.hexdigest()[:16] == expected


def test_more_shapes_continue_the_same_images() -> None:
    more = bundled_listing("shapes", "test", size=5000)
    files = [entry.file for entry in more.entries]
    assert len(files) == 5000
    assert files[:1200] == load_dataset("shapes").samples.files()
    assert more.reader.read(files[4999]) != more.reader.read(files[4987])


def test_the_size_word_matches_the_drawn_area() -> None:
    rng = np.random.default_rng(5)
    extent: dict[str, list[int]] = {"small": [], "medium": [], "large": []}
    for _ in range(120):
        pixels, truth = shapes.render("circle", rng)
        if truth.count == 1:
            extent[truth.size].append(_painted_width(pixels, truth.colour))
    # medians: a few backgrounds blend into the colour of the circle
    middle = {size: np.median(widths) for size, widths in extent.items()}
    assert 11 <= middle["small"] <= 16 < 18 <= middle["medium"] <= 25 < 30 <= middle["large"]


def _painted_width(pixels: np.ndarray, colour: str) -> int:
    near = np.abs(pixels.astype(int) - COLOURS[colour]).max(2) < 64
    # a column belongs to the shape if several of its pixels do; grain alone makes single ones
    columns = np.flatnonzero(near.sum(0) >= 3)
    return int(columns[-1] - columns[0] + 1)


def test_png_has_exactly_the_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (200, 150, 3)).astype(np.uint8)
    assert np.array_equal(
        np.asarray(Image.open(io.BytesIO(encode_png(pixels)))), pixels
    )  # 90 kB: more than one stored block


@pytest.mark.parametrize(
    "file",
    [
        "digits/test/0000_one.png",
        "digits/val/0000_zero.png",
        "digits/test/9999_zero.png",
        "digits/test/zero.png",
        "shapes/test/0000_square.png",
        "../digits/test/0000_zero.png",
    ],
)
def test_unknown_files_are_errors(file: str) -> None:
    with pytest.raises(FileNotFoundError, match="no such image"):
        load_dataset("digits").reader.read(file)
