"""Running class scores: how the categories of a class become one score, layer by layer of new texts.

`max` needs no class of its own here, see `passes.py`. To add another aggregation, write a class with the
methods of :class:`ClassScores` and name it in `CLASS_SCORES`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from semscale.scoring.plan import Float32, LadderPlan, Layer


class ClassScores(Protocol):
    """The running state of one block of images; made once and reset for each block."""

    def __init__(self, plan: LadderPlan, texts: Float32, rows: int) -> None:
        """Take the ladder, its text embeddings float32[m, d], and the largest number of images in a block."""

    def reset(self, rows: int) -> None:
        """Forget the block before; the next one has this many images."""

    def update(self, layer: Layer, similarities: Float32) -> None:
        """Merge the layer's columns of float32[rows, new texts of the step], without changing them."""

    def class_scores(self, step: int) -> Float32:
        """Return float32[rows, n_classes] for this step, in a buffer that the caller may overwrite."""


class MeanEmbedding:
    """The class is one point, the renormalised mean of its unit text embeddings; its score is their cosine.

    Since <x, sum of t> / |sum of t| is linear in x, the same similarities serve: their running sums per
    class, divided by the norm of the running sum of the text embeddings. A class whose embeddings cancel
    scores 0.
    """

    def __init__(self, plan: LadderPlan, texts: Float32, rows: int) -> None:
        self._inverse_norms = _inverse_norms(plan, texts)
        self._all_sums = np.empty((rows, plan.n_classes), dtype=np.float32)
        self._all_scores = np.empty_like(self._all_sums)
        self._sums = self._all_sums

    def reset(self, rows: int) -> None:
        self._sums = self._all_sums[:rows]
        self._sums.fill(0.0)

    def update(self, layer: Layer, similarities: Float32) -> None:
        # No class is twice in a layer, so the augmented assignment is right for index arrays too.
        self._sums[:, layer.classes] += similarities[:, layer.columns]

    def class_scores(self, step: int) -> Float32:
        scores = self._all_scores[: len(self._sums)]
        np.multiply(self._sums, self._inverse_norms[step], out=scores)
        return scores


def _inverse_norms(plan: LadderPlan, texts: Float32) -> Float32:
    sums = np.zeros((plan.n_classes, texts.shape[1]), dtype=np.float64)
    inverse = np.empty((len(plan.steps), plan.n_classes), dtype=np.float32)
    for k, step in enumerate(plan.steps):
        new = texts[step.start : step.stop]
        for layer in step.layers:
            sums[layer.classes] += new[layer.columns]
        norms = np.linalg.norm(sums, axis=1)
        inverse[k] = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 1e-6)
    return inverse


CLASS_SCORES: dict[str, type[ClassScores]] = {"mean-embedding": MeanEmbedding}
