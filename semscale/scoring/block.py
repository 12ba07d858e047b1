"""One block of images over the steps of a ladder: one product per step, answered strip by strip."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from semscale.scoring.passes import Answers, Pass
from semscale.scoring.plan import Float32, Int32, LadderPlan
from semscale.scoring.running import Scratch
from semscale.scoring.strip import Strip

_STRIP_BYTES = 1024 * 1024


def strip_rows(n_classes: int, rows: int) -> int:
    """Return how many images a strip has: about one megabyte of class scores, and never more than the block.

    >>> strip_rows(1000, 2048), strip_rows(10, 2048), strip_rows(10**6, 2048)
    (256, 2048, 32)
    """
    fitting = _STRIP_BYTES // (4 * n_classes) // 32 * 32
    return min(max(32, fitting), rows)


class BlockScorer:
    """Scores one block after the other, in one thread.

    A strip is so small that what is kept of its images stays in the processor's cache while several aggregations use
    it.

    Args:
        plan: the ladder.
        texts: float32[m, d], its text embeddings.
        make_passes: makes what answers, for one strip; the one that overwrites similarities comes last.
        ceiling: whether the ceiling is wanted too.
        rows: the largest number of images in a block.
        logit_scale: the factor before the softmax.
    """

    def __init__(
        self,
        plan: LadderPlan,
        texts: Float32,
        make_passes: Callable[[], Sequence[Pass]],
        ceiling: bool,
        rows: int,
        logit_scale: float,
    ) -> None:
        self._plan, self._texts = plan, texts
        self._strip_rows = strip_rows(plan.n_classes, rows)
        self._strips = [
            (slice(first, first + self._strip_rows), Strip(plan, make_passes(), ceiling, self._strip_rows, logit_scale))
            for first in range(0, rows, max(1, self._strip_rows))
        ]
        self._scratch = Scratch(self._strip_rows, plan.n_classes)
        self._product = np.empty(rows * plan.widest, dtype=np.float32)

    def run(self, images: Float32, true_class: Int32, outs: Sequence[Answers], ceiling: NDArray[np.bool_]) -> None:
        """Score a block.

        Args:
            images: float32[rows, d], contiguous.
            true_class: int32[rows].
            outs: where each pass writes.
            ceiling: bool[rows, S], or no columns where it is not wanted.
        """
        strips = [(rows, strip) for rows, strip in self._strips if rows.start < len(images)]
        for rows, strip in strips:
            strip.begin(true_class[rows], [out.part(rows) for out in outs], ceiling[rows])
        for k, step in enumerate(self._plan.steps):
            width = step.stop - step.start
            similarities = self._product[: len(images) * width].reshape(len(images), width)
            if width:
                np.matmul(images, self._texts[step.start : step.stop].T, out=similarities)
            for part, strip in strips:
                strip.take(k, similarities[part], self._scratch)
