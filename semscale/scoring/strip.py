"""A strip: a part of the images of a block, and all that is asked about them, step by step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from semscale.scoring.ceiling import NEEDS, within_reach
from semscale.scoring.passes import Answers, Pass
from semscale.scoring.plan import Float32, Int32, LadderPlan
from semscale.scoring.running import Needs, Running, Scratch


class Strip:
    """Some images of a block and all that is asked about them, over the steps of the ladder.

    Args:
        plan: the ladder.
        passes: what answers; the one that overwrites similarities comes last.
        ceiling: whether the ceiling is wanted too.
        rows: the largest number of images.
        logit_scale: the factor before the softmax.
    """

    def __init__(self, plan: LadderPlan, passes: Sequence[Pass], ceiling: bool, rows: int, logit_scale: float) -> None:
        self._plan = plan
        self._passes = passes
        self._with_ceiling = ceiling
        self._needs = Needs.of([*(each.needs for each in passes), *([NEEDS] if ceiling else [])])
        self._running = Running(plan, rows, self._needs, logit_scale)

    def begin(self, true_class: Int32, outs: Sequence[Answers], ceiling: NDArray[np.bool_]) -> None:
        """Start with the images of these true classes, int32[rows], and write to these arrays from now on."""
        self._true_class, self._outs, self._ceiling = true_class, outs, ceiling
        for each in self._passes:
            each.begin(true_class)

    def take(self, k: int, similarities: Float32, scratch: Scratch) -> None:
        """Answer step k, given float32[rows, new texts of the step], which are overwritten."""
        if similarities.shape[1] and self._needs.any_class:
            for layer in self._plan.steps[k].layers:
                self._running.merge(layer, similarities, scratch)
        if self._with_ceiling:
            self._ceiling[:, k] = within_reach(self._running, self._true_class)
        new = similarities if similarities.shape[1] else None
        for each, out in zip(self._passes, self._outs, strict=True):
            each.answer(k, new, self._running, out, scratch)
