"""From the few texts that screening leaves to the prediction that the float32 kernel makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semscale.accelerate.bound import kernel_bound, norms
from semscale.scoring.plan import Float32, Int32, Step

Bool = NDArray[np.bool_]
Float64 = NDArray[np.float64]

_CHUNK_ROWS = 64
_PAIRS = 8192


@dataclass(frozen=True)
class Candidates:
    """What screening leaves of a block: pairs of an image and a text, sorted by image, then by text.

    Attributes:
        row, text: int64[p].
        value: float32[p], the screened cosine.
        floor: float64[rows, S]: at step k every text of an image with a screened cosine below its floor is out.
    """

    row: NDArray[np.int64]
    text: NDArray[np.int64]
    value: Float32
    floor: Float64


class ExactRows:
    """The float32 kernel's own similarities of a few images of a block.

    A matrix product of another shape may round the last bit differently, so a chunk of a few rows stands for the
    block only where :func:`rows_are_independent` has seen that it gives the same bits; elsewhere the whole block is
    multiplied.

    Args:
        images: float32[rows, d], the block, contiguous.
        texts: float32[m, d].
        independent: for each step whether chunks of rows will do.
    """

    def __init__(self, images: Float32, texts: Float32, independent: Sequence[bool]) -> None:
        self._images, self._texts, self._independent = images, texts, independent

    def of(self, k: int, step: Step, rows: NDArray[np.int64]) -> Float32:
        """Return float32[len(rows), new texts of step k]."""
        new = self._texts[step.start : step.stop]
        if not self._independent[k]:
            whole: Float32 = np.matmul(self._images, new.T)
            return whole[rows]
        return chunked_product(self._images, new, rows)


def chunked_product(images: Float32, texts: Float32, rows: NDArray[np.int64]) -> Float32:
    """Return `images[rows] @ texts.T` from products of always the same shape, the last filled up with its first row."""
    found = np.empty((len(rows), len(texts)), dtype=np.float32)
    for first in range(0, len(rows), _CHUNK_ROWS):
        part = rows[first : first + _CHUNK_ROWS]
        full = np.concatenate([part, np.repeat(part[:1], _CHUNK_ROWS - len(part))])
        found[first : first + len(part)] = np.matmul(images[full], texts.T)[: len(part)]
    return found


def rows_are_independent(images: Float32, texts: Float32, steps: Sequence[Step]) -> list[bool]:
    """Return for each step whether chunks of this block's rows give the bits that the product of the block gives.

    The order of a product's sums depends on its shape and not on its numbers, so one block of many different
    numbers tells, and one step tells for all of its width. The rows are taken backwards, so that none keeps its place.

    Args:
        images: float32[rows, d], contiguous.
        texts: float32[m, d].
        steps: the texts that each step adds.
    """
    backwards = np.arange(len(images))[::-1]
    known = {0: True}
    for step in steps:
        if (width := step.stop - step.start) not in known:
            new = texts[step.start : step.stop]
            same = chunked_product(images, new, backwards) == np.matmul(images, new.T)[backwards]
            known[width] = bool(same.all())
    return [known[step.stop - step.start] for step in steps]


def resolve(
    found: Candidates, images: Float32, texts: Float32, t_norm: float, steps: Sequence[Step], exact: ExactRows
) -> Int32:
    """Return the nearest text of each image at each step, int32[rows, S], as the float32 kernel has it.

    One candidate is the answer. Of several, the cosines are computed in double precision, and the largest is the answer
    if no other is within twice the kernel's rounding. What is left is compared by the kernel's own numbers, where the
    earlier text wins a tie.
    """
    alive = [(found.text < step.stop) & (found.value >= found.floor[found.row, k]) for k, step in enumerate(steps)]
    rivals = np.zeros(len(found.floor), dtype=np.bool_)
    for here in alive:
        rivals |= np.bincount(found.row[here], minlength=len(rivals)) > 1
    compared = np.flatnonzero(rivals[found.row])
    cosines = np.zeros(len(found.row), dtype=np.float64)
    cosines[compared] = _double_cosines(images, texts, found.row[compared], found.text[compared])
    window = 2 * kernel_bound(norms(images), t_norm, images.shape[1])[found.row]
    unsure = np.zeros(len(found.row), dtype=np.bool_)
    for k, here in enumerate(alive):
        best = np.full(len(rivals), -np.inf)
        np.maximum.at(best, found.row[here], cosines[here])
        alive[k] = close = here & (cosines >= best[found.row] - window)
        unsure |= close & (np.bincount(found.row[close], minlength=len(rivals)) > 1)[found.row]
    decisive = _kernel_cosines(found, unsure, steps, exact)
    predicted = np.empty(found.floor.shape, dtype=np.int32)
    for k, close in enumerate(alive):
        at = np.flatnonzero(close)
        # by image, then the largest first, then the earliest text; the first of each image is the answer
        order = at[np.lexsort((found.text[at], -decisive[at], found.row[at]))]
        rows, first = np.unique(found.row[order], return_index=True)
        predicted[rows, k] = found.text[order[first]]
    return predicted


def _double_cosines(images: Float32, texts: Float32, row: NDArray[np.int64], text: NDArray[np.int64]) -> Float64:
    cosines = np.empty(len(row), dtype=np.float64)
    for first in range(0, len(row), _PAIRS):
        part = slice(first, first + _PAIRS)
        cosines[part] = np.einsum("ij,ij->i", images[row[part]], texts[text[part]], dtype=np.float64)
    return cosines


def _kernel_cosines(found: Candidates, unsure: Bool, steps: Sequence[Step], exact: ExactRows) -> Float32:
    cosines = np.zeros(len(found.row), dtype=np.float32)
    for k, step in enumerate(steps):
        pairs = np.flatnonzero(unsure & (found.text >= step.start) & (found.text < step.stop))
        if pairs.size:
            rows, place = np.unique(found.row[pairs], return_inverse=True)
            cosines[pairs] = exact.of(k, step, rows)[place, found.text[pairs] - step.start]
    return cosines
