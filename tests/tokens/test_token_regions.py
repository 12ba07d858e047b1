"""Regions have exactly as many labels as asked for, and partitions cover every patch once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tower_zoo import given as inputs_for
from tower_zoo import normalised, pictures, tower, trace

from semscale.common.errors import ConfigError, SemscaleError
from semscale.tokens import regions
from semscale.tokens.partitions import overlap


def draws(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**63, count).astype(np.uint64)


@settings(max_examples=60)
@given(st.integers(1, 60), st.integers(8, 24), st.integers(8, 24), st.integers(0, 5))
def test_every_map_has_exactly_its_regions(count: int, height: int, width: int, seed: int) -> None:
    made = {
        "grid": regions.grid_labels(count, height, width),
        "voronoi": regions.voronoi_labels(draws(seed, height * width), count, height, width),
        "rectangles": regions.rectangle_labels(draws(seed, count), count, height, width),
    }
    for name, labels in made.items():
        assert labels.shape == (height, width)
        assert labels.dtype == np.int64
        assert sorted(np.unique(labels)) == list(range(count)), name


def test_two_hundred_voronoi_maps_have_no_empty_cell() -> None:
    for seed in range(200):
        labels = regions.voronoi_labels(draws(seed, 1600), 49, 40, 40)
        assert len(np.unique(labels)) == 49


def test_a_grid_of_as_many_cells_as_patches_is_the_patches() -> None:
    for rows, columns, cell in ((5, 5, 8), (14, 14, 16), (3, 7, 8), (7, 3, 4)):
        labels = regions.grid_labels(rows * columns, rows * cell, columns * cell)
        patches = np.arange(rows * columns).reshape(rows, columns).repeat(cell, 0).repeat(cell, 1)
        assert np.array_equal(labels, patches)


def test_rectangles_are_rectangles_and_no_slivers() -> None:
    labels = regions.rectangle_labels(draws(1, 9), 9, 40, 40)
    for number in range(9):
        rows, columns = np.nonzero(labels == number)
        assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    assert np.bincount(labels.ravel()).min() > 40


@pytest.mark.parametrize("count", [1, 4, 7, 25, 60])
def test_too_many_or_too_few_regions_are_made_exactly_so_many(count: int) -> None:
    image = pictures(1)[0].numpy()
    labels = regions.with_count(regions.voronoi_labels(draws(3, 1600), 25, 40, 40), image, count)
    assert sorted(np.unique(labels)) == list(range(count))
    first = [int(np.flatnonzero(labels.ravel() == number)[0]) for number in range(count)]
    assert first == sorted(first)
    if count == 25:
        assert np.array_equal(labels, regions.with_count(labels[:, :], image, 25))


def test_the_smallest_region_joins_the_neighbour_of_its_colour() -> None:
    image = np.zeros((4, 9, 3), dtype=np.uint8)
    image[:, :4], image[:, 4:5], image[:, 5:] = 10, 200, 210
    labels = np.zeros((4, 9), dtype=np.int64)
    labels[:, 4:5], labels[:, 5:] = 1, 2
    assert np.array_equal(regions.with_count(labels, image, 2)[0], [0, 0, 0, 0, 1, 1, 1, 1, 1])


def test_slic_follows_edges_and_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(regions.importlib, "import_module", missing)
    with pytest.raises(SemscaleError, match="need scikit-image"):
        regions.slic_labels(pictures(1)[0].numpy(), 4)
    monkeypatch.undo()
    pytest.importorskip("skimage")
    image = np.zeros((40, 40, 3), dtype=np.uint8)
    image[:, 13:] = 255
    for count in (1, 2, 5, 9, 16, 25, 50):
        labels = regions.slic_labels(image, count)
        assert sorted(np.unique(labels)) == list(range(count))
        if count > 4:
            assert not set(np.unique(labels[:, :13])) & set(np.unique(labels[:, 13:]))


def test_levels_of_slic_have_exactly_their_superpixels() -> None:
    pytest.importorskip("skimage")
    images = pictures()
    own, shuffled, alone = trace(
        "tok", images, ["superpixels:9", "superpixels:9/shuffled#1", "superpixels:9+compactness=1"]
    )
    for one, other in zip(own.labels, shuffled.labels, strict=True):
        assert len(one.unique()) == 9
        assert torch.equal(one.flatten().bincount(), other.flatten().bincount())
    assert not torch.equal(own.features, shuffled.features)
    assert not torch.equal(own.labels, alone.labels)


def test_instances_largest_first_and_their_controls() -> None:
    instances = np.zeros((12, 12), dtype=np.int64)
    instances[0:2, 0:2], instances[4:9, 4:9], instances[10:12, 0:12] = 5, 9, 2
    labels = regions.largest_instances(instances, 2)
    assert (labels[5, 5], labels[11, 3], labels[0, 0], labels[3, 3]) == (0, 1, 2, 2)
    instances[6, 6] = 0  # a hole
    boxes = regions.box_labels(regions.largest_instances(instances, 3), 3)
    assert boxes[6, 6] == boxes[5, 5]
    blobs = regions.blob_labels(labels, draws(2, 2), 2)
    assert np.array_equal(np.bincount(blobs.ravel()), np.bincount(labels.ravel()))
    assert not np.array_equal(blobs, labels)


def test_too_many_regions_are_refused() -> None:
    with pytest.raises(ConfigError, match="so many regions"):
        regions.grid_labels(10, 3, 3)


@pytest.mark.parametrize(("cell", "exact"), [(8, True), (14, False)])
def test_every_patch_is_shared_out_once(cell: int, exact: bool) -> None:
    side = 5 * cell
    labels = np.stack([regions.voronoi_labels(draws(seed, side * side), 9, side, side) for seed in range(3)])
    weights = overlap(torch.from_numpy(labels), 9, (5, 5))
    assert (weights.sum(2) > 0).all()
    if exact:
        assert torch.equal(weights.sum(1), torch.ones(3, 25))
        assert torch.equal(weights.sum((1, 2)), torch.full((3,), 25.0))
    torch.testing.assert_close(weights.sum(1), torch.ones(3, 25))


def test_shuffled_regions_keep_their_sizes() -> None:
    images = pictures()
    texts = ("segments:2", "segments:2/shuffled#1", "segments:2/voronoi")
    own, shuffled, blobs = trace("tok", images, texts, inputs_for(images))
    for one, other, third in zip(own.labels, shuffled.labels, blobs.labels, strict=True):
        assert torch.equal(one.flatten().bincount(), other.flatten().bincount())
        assert torch.equal(one.flatten().bincount(), third.flatten().bincount())
        assert not torch.equal(one, other)


@torch.inference_mode()
def test_a_regions_token_is_the_mean_over_its_area() -> None:
    found, images = tower("timm-max"), pictures()
    labels = torch.full((3, 40, 40), 1)
    labels[:, :8, :12] = 0  # the first cell and half of the second
    tokens = found.embed(normalised(images))[:, found.prefix :]
    weights = overlap(labels, 2, (5, 5))
    mean = (weights @ tokens / weights.sum(2, keepdim=True))[:, 0]
    torch.testing.assert_close(mean, (tokens[:, 0] + 0.5 * tokens[:, 1]) / 1.5)
