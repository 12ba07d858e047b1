"""Running class scores: how the categories of a class become one score, layer by layer of new texts.

`max` needs no class of its own here, see `passes.py`. To add another aggregation, write a class with the
methods of :class:`ClassScores` and name it in `CLASS_SCORES` and :func:`class_scores_of`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Protocol

import numpy as np

from semscale.errors import SemscaleError
from semscale.scoring.plan import Float32, LadderPlan, Layer

LOGIT_SCALE = 100.0
"""The factor before the softmax in CLIP as published (its temperature is 1/100)."""


class ClassScores(Protocol):
    """The running state of one block of images; made once and reset for each block.

    Made from the ladder, its text embeddings float32[m, d], and the largest number of images in a block.
    """

    def reset(self, rows: int) -> None:
        """Forget the block before; the next one has this many images."""

    def update(self, layer: Layer, similarities: Float32) -> None:
        """Merge the layer's columns of float32[rows, new texts of the step], without changing them."""

    def class_scores(self, step: int) -> Float32:
        """Return float32[rows, n_classes] for this step, in a buffer that the caller may overwrite."""


class _ScaledSums:
    """A score that is the sum of the cosines of a class's categories times a weight per step and class."""

    def __init__(self, weights: Float32, rows: int) -> None:
        self._weights = weights
        self._all_sums = np.empty((rows, weights.shape[1]), dtype=np.float32)
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
        np.multiply(self._sums, self._weights[step], out=scores)
        return scores


class MeanEmbedding(_ScaledSums):
    """The class is one point, the renormalised mean of its unit text embeddings; its score is their cosine.

    Since <x, sum of t> / |sum of t| is linear in x, the same similarities serve: their running sums per
    class, divided by the norm of the running sum of the text embeddings. A class whose embeddings cancel
    scores 0.
    """

    def __init__(self, plan: LadderPlan, texts: Float32, rows: int) -> None:
        super().__init__(_inverse_norms(plan, texts), rows)


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


class MeanSimilarity(_ScaledSums):
    """The score of a class is the mean of the cosines of its categories."""

    def __init__(self, plan: LadderPlan, texts: Float32, rows: int) -> None:
        super().__init__(np.reciprocal(plan.class_counts.astype(np.float32)), rows)


class LogSumExp:
    """The score of a class is log(sum of exp(t s)) / t over the cosines s of its categories, t the logit scale.

    Thus the softmax of t times the class scores gives each class the sum of the probabilities that the softmax over
    all categories gives to its own. Kept as the running maximum m and the sum of exp(t (s - m)), which neither
    overflows nor vanishes.
    """

    def __init__(self, plan: LadderPlan, texts: Float32, rows: int, logit_scale: float) -> None:
        self._scale = np.float32(logit_scale)
        self._all_maxima = np.empty((rows, plan.n_classes), dtype=np.float32)
        self._all_sums = np.empty_like(self._all_maxima)
        self._all_scores = np.empty_like(self._all_maxima)
        self._maxima, self._sums = self._all_maxima, self._all_sums

    def reset(self, rows: int) -> None:
        self._maxima, self._sums = self._all_maxima[:rows], self._all_sums[:rows]
        self._maxima.fill(-np.inf)
        self._sums.fill(0.0)

    def update(self, layer: Layer, similarities: Float32) -> None:
        new = similarities[:, layer.columns]
        maxima, sums = self._maxima[:, layer.classes], self._sums[:, layer.classes]
        # One of the two terms has the factor 1, the other this one; before the first text it is exp(-inf) = 0.
        ratio = np.abs(new - maxima)
        ratio *= -self._scale
        np.exp(ratio, out=ratio)
        self._sums[:, layer.classes] = np.where(new > maxima, sums * ratio + 1, sums + ratio)
        self._maxima[:, layer.classes] = np.maximum(maxima, new)

    def class_scores(self, step: int) -> Float32:
        scores = self._all_scores[: len(self._sums)]
        np.log(self._sums, out=scores)
        scores /= self._scale
        scores += self._maxima
        return scores


class TopMean:
    """The score of a class is the mean of the k best cosines of its categories, of all where it has fewer."""

    def __init__(self, plan: LadderPlan, texts: Float32, rows: int, k: int) -> None:
        self._counts = plan.class_counts
        # A class never has more than it has in the end, however large k is.
        kept = min(k, int(self._counts.max()))
        self._all_best = np.empty((kept, rows, plan.n_classes), dtype=np.float32)
        self._all_scores = np.empty((rows, plan.n_classes), dtype=np.float32)
        self._best = self._all_best

    def reset(self, rows: int) -> None:
        self._best = self._all_best[:, :rows]
        self._best.fill(-np.inf)

    def update(self, layer: Layer, similarities: Float32) -> None:
        new = similarities[:, layer.columns]
        for best in self._best:  # from the largest down, each takes its place and hands the smaller one on
            kept = best[:, layer.classes]
            best[:, layer.classes], new = np.maximum(kept, new), np.minimum(kept, new)

    def class_scores(self, step: int) -> Float32:
        scores = self._all_scores[: self._best.shape[1]]
        counts = self._counts[step]
        scores.fill(0.0)
        for place, best in enumerate(self._best):
            if (there := counts > place).all():
                scores += best
            else:
                scores[:, there] += best[:, there]
        scores *= (1 / np.minimum(counts, len(self._best))).astype(np.float32)
        return scores


MakeClassScores = Callable[[LadderPlan, Float32, int], ClassScores]

CLASS_SCORES = ("mean-embedding", "mean-similarity", "logsumexp", "top-3-mean")
"""The aggregations with a score for every class; any k from 1 to 999 can stand for the 3 of `top-3-mean`."""

_TOP_MEAN = re.compile(r"top-([1-9]\d{0,2})-mean")


def class_scores_of(aggregation: str, logit_scale: float) -> MakeClassScores:
    """Return what makes the running class scores of an aggregation.

    Args:
        aggregation: one of `CLASS_SCORES`.
        logit_scale: the factor before the softmax, which `logsumexp` uses.

    Raises:
        SemscaleError: for an unknown aggregation.
    """
    if aggregation == "mean-embedding":
        return MeanEmbedding
    if aggregation == "mean-similarity":
        return MeanSimilarity
    if aggregation == "logsumexp":
        return partial(LogSumExp, logit_scale=logit_scale)
    if match := _TOP_MEAN.fullmatch(aggregation):
        return partial(TopMean, k=int(match[1]))
    known = ", ".join(("max", *CLASS_SCORES))
    raise SemscaleError("unknown aggregation", found=repr(aggregation), expected=f"one of {known}")
