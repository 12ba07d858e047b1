"""Regions of a picture: label maps with exactly k regions, by content, by distance, by rectangles or on a grid.

A label map is int64 [height, width] with the labels 0 to k - 1, none of them without a pixel. What is drawn comes from
given random numbers, never from a generator of a library.
"""

from __future__ import annotations

import importlib

import numpy as np
from numpy.typing import NDArray

from semscale.common.errors import ConfigError, SemscaleError

Labels = NDArray[np.int64]
Draws = NDArray[np.uint64]


def grid_labels(count: int, height: int, width: int) -> Labels:
    """Return `count` cells of nearly equal size: rows of cells, each cut into as many columns as are due.

    >>> grid_labels(3, 2, 2).tolist()
    [[0, 0], [1, 2]]
    """
    _check(count, height, width)
    rows = min(max(round((count * height / width) ** 0.5), -(-count // width)), height, count)
    row_of = np.arange(height) * rows // height
    starts = np.arange(rows + 1) * count // rows
    columns = np.diff(starts)
    across = np.arange(width)[None] * columns[row_of][:, None] // width
    return np.asarray(starts[row_of][:, None] + across, dtype=np.int64)


def voronoi_labels(draws: Draws, count: int, height: int, width: int) -> Labels:
    """Return the cells of `count` distinct pixels: every pixel belongs to the nearest one, ties to the first.

    Args:
        draws: height * width random numbers.
        count, height, width: the number of cells, and the size of the map.
    """
    _check(count, height, width)
    sites = np.argsort(draws, kind="stable")[:count]
    rows, columns = np.divmod(sites, width)
    across = (np.arange(width)[:, None] - columns[None]) ** 2
    # row by row, since all distances at once are large
    return np.stack([(across + (row - rows)[None] ** 2).argmin(1) for row in range(height)]).astype(np.int64)


def rectangle_labels(draws: Draws, count: int, height: int, width: int) -> Labels:
    """Return `count` rectangles: the largest is cut in two, across its longer side, at a random position, and so on.

    Args:
        draws: at least `count` random numbers.
        count, height, width: the number of rectangles, and the size of the map.
    """
    _check(count, height, width)
    boxes = [(0, 0, height, width)]
    for draw in draws[: count - 1]:
        top, left, tall, wide = boxes.pop(max(range(len(boxes)), key=lambda i: boxes[i][2] * boxes[i][3]))
        longer = max(tall, wide)
        # in the middle half, so that no rectangle is a sliver
        cut = min(max(longer // 4 + int(draw % np.uint64(longer // 2 + 1)), 1), longer - 1)
        if tall >= wide:
            boxes += [(top, left, cut, wide), (top + cut, left, tall - cut, wide)]
        else:
            boxes += [(top, left, tall, cut), (top, left + cut, tall, wide - cut)]
    labels = np.empty((height, width), dtype=np.int64)
    for number, (top, left, tall, wide) in enumerate(sorted(boxes)):
        labels[top : top + tall, left : left + wide] = number
    return labels


def slic_labels(image: NDArray[np.uint8], count: int, compactness: float = 10.0) -> Labels:
    """Return exactly `count` superpixels by SLIC (Achanta et al. 2012), as scikit-image computes it.

    SLIC gives about as many as it is asked for; :func:`with_count` makes up the difference.

    Args:
        image: uint8 [height, width, 3].
        count: the number of superpixels.
        compactness: how much nearness counts against colour; large values give squares.

    Raises:
        SemscaleError: scikit-image is not installed.
    """
    _check(count, *image.shape[:2])
    try:
        segmentation = importlib.import_module("skimage.segmentation")
    except ImportError as error:
        hint = "pip install scikit-image, or superpixels of another kind: voronoi, grid, rectangles"
        raise SemscaleError("SLIC superpixels need scikit-image", found=str(error), hint=hint) from error
    if count == 1:
        return np.zeros(image.shape[:2], dtype=np.int64)
    labels = segmentation.slic(image, n_segments=count, compactness=compactness, start_label=0)
    return with_count(np.asarray(labels, dtype=np.int64), image, count)


def with_count(labels: Labels, image: NDArray[np.uint8], count: int) -> Labels:
    """Return a label map with exactly `count` regions, in the order of their first pixels.

    While there are too many, the smallest joins the neighbour whose mean colour is nearest; while there are too few,
    the largest is cut in two at the median of its longer side.
    """
    labels = _in_order(labels)
    while labels.max() + 1 > count:
        sizes = np.bincount(labels.ravel())
        smallest = int(sizes.argmin())
        colours = np.stack([np.bincount(labels.ravel(), image[..., i].ravel()) / sizes for i in range(3)], 1)
        near = _neighbours(labels, smallest)
        nearest = near[((colours[near] - colours[smallest]) ** 2).sum(1).argmin()]
        labels = _in_order(np.where(labels == smallest, nearest, labels))
    while labels.max() + 1 < count:
        rows, columns = np.nonzero(labels == np.bincount(labels.ravel()).argmax())
        along = rows if np.ptp(rows) >= np.ptp(columns) else columns
        second = np.argsort(along, kind="stable")[len(along) // 2 :]
        labels[rows[second], columns[second]] = labels.max() + 1
    return _in_order(labels)


def largest_instances(instances: Labels, count: int) -> Labels:
    """Return the `count` largest instances as 0, 1, ..., largest first, and all the rest as `count`.

    Args:
        instances: int [height, width], 0 where there is none.
        count: how many to keep; where there are fewer, labels stay without pixels.

    >>> largest_instances(np.array([[0, 7, 7, 3]]), 1).tolist()
    [[1, 0, 0, 1]]
    """
    numbers, sizes = np.unique(instances[instances != 0], return_counts=True)
    labels = np.full(instances.shape, count, dtype=np.int64)
    for position, number in enumerate(numbers[np.argsort(-sizes, kind="stable")][:count]):
        labels[instances == number] = position
    return labels


def box_labels(labels: Labels, count: int) -> Labels:
    """Return the bounding boxes of the regions 0 to count - 1, smaller ones before larger ones; the rest is `count`."""
    boxes = np.full(labels.shape, count, dtype=np.int64)
    for number in range(count):  # largest first
        rows, columns = np.nonzero(labels == number)
        if len(rows):
            boxes[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = number
    return boxes


def blob_labels(labels: Labels, draws: Draws, count: int) -> Labels:
    """Return round regions of the same areas as the regions 0 to count - 1, at random positions; the rest is `count`.

    Args:
        labels: the regions.
        draws: at least `count` random numbers.
        count: how many regions.
    """
    height, width = labels.shape
    blobs = np.full(height * width, count, dtype=np.int64)
    rows, columns = np.divmod(np.arange(height * width), width)
    for number in range(count):
        area = int((labels == number).sum())
        row, column = divmod(int(draws[number] % np.uint64(height * width)), width)
        distances = (rows - row) ** 2 + (columns - column) ** 2
        free = np.nonzero(blobs == count)[0]
        blobs[free[np.argsort(distances[free], kind="stable")][:area]] = number
    return blobs.reshape(height, width)


def _check(count: int, height: int, width: int) -> None:
    if not 1 <= count <= height * width:
        found, expected = f"{count} regions", f"1 to {height * width}, a pixel each"
        raise ConfigError("a picture cannot have so many regions", found=found, expected=expected)


def _in_order(labels: Labels) -> Labels:
    _, first, positions = np.unique(labels, return_index=True, return_inverse=True)
    ranks = np.empty(len(first), dtype=np.int64)
    ranks[np.argsort(first)] = np.arange(len(first))
    return ranks[positions.reshape(labels.shape)]


def _neighbours(labels: Labels, number: int) -> Labels:
    inside = labels == number
    around = np.zeros_like(inside)
    around[1:] |= inside[:-1]
    around[:-1] |= inside[1:]
    around[:, 1:] |= inside[:, :-1]
    around[:, :-1] |= inside[:, 1:]
    return np.unique(labels[around & ~inside])
