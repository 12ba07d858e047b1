"""Whether the bits of the kernel's product depend on where a row stands: what is gathered from blocks relies on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from semscale.scoring.plan import Float32, Step


@dataclass(frozen=True)
class EqualBits:
    """What was seen of the matrix product of this machine, at the shapes of a ladder.

    Attributes:
        of_rows: an image gives the same bits wherever it stands in a block of the same size.
        of_columns: and a text wherever it stands among the texts of any of the steps, so that equal texts give equal
            bits.
    """

    of_rows: bool
    of_columns: bool


def equal_bits(images: Float32, texts: Float32, steps: Sequence[Step]) -> EqualBits:
    """Multiply one block with its rows and columns in another order, and see whether the bits are the same.

    The order of a product's sums depends on its shape and not on its numbers, so one block of many different numbers
    tells, and one product tells for all steps of its width. It costs a product for every width and one more.

    Args:
        images: float32[block, d], contiguous.
        texts: float32[m, d].
        steps: the texts that each step adds.

    >>> rows = np.eye(4, dtype=np.float32)
    >>> equal_bits(rows, rows, [Step(0, 4, ())])
    EqualBits(of_rows=True, of_columns=True)
    """
    widths = sorted({step.stop - step.start for step in steps} - {0})
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(images))
    moved = images[rows]

    def same(columns: NDArray[np.int64], expected: Float32) -> bool:
        return bool((np.matmul(moved, texts[columns].T) == expected[rows][:, columns]).all())

    # as the kernel multiplies where it has several blocks
    with threadpool_limits(1, user_api="blas"):
        whole = np.matmul(images, texts[: widths[-1]].T)
        if all(same(rng.permutation(width), whole) for width in widths):
            return EqualBits(of_rows=True, of_columns=True)
        return EqualBits(
            of_rows=all(same(np.arange(width), np.matmul(images, texts[:width].T)) for width in widths),
            of_columns=False,
        )
