"""The aggregations: how the categories of a class become one class score.

`max` needs no class of its own here, see `passes.py`. To add another aggregation, write a class with the
methods of :class:`Rule` and name it in `CLASS_SCORES` and :func:`rule_of`.
"""

from __future__ import annotations

import re
from typing import Protocol

import numpy as np

from semscale.errors import SemscaleError
from semscale.scoring.plan import Float32, LadderPlan
from semscale.scoring.running import Needs, Running

LOGIT_SCALE = 100.0
"""The factor before the softmax in CLIP as published (its temperature is 1/100)."""


class Rule(Protocol):
    """A score of every class, made from the running state; one rule serves all strips."""

    needs: Needs
    """What the running state must hold."""

    def class_scores(self, running: Running, step: int, out: Float32) -> None:
        """Write float32[rows, n_classes], the scores of the first `rows` images at this step."""


class ScaledSums:
    """A score that is the sum of the cosines of a class's categories times a weight per step and class.

    Args:
        weights: float32[S, n_classes].
    """

    needs = Needs(sums=True)

    def __init__(self, weights: Float32) -> None:
        self.weights = weights

    def class_scores(self, running: Running, step: int, out: Float32) -> None:
        """Write the weighted sums."""
        np.multiply(running.sums[: len(out)], self.weights[step], out=out)


def mean_embedding(plan: LadderPlan, texts: Float32) -> ScaledSums:
    """The class is one point, the renormalised mean of its unit text embeddings; its score is their cosine.

    Since <x, sum of t> / |sum of t| is linear in x, the same similarities serve: their running sums per
    class, divided by the norm of the running sum of the text embeddings. A class whose embeddings cancel
    scores 0.
    """
    sums = np.zeros((plan.n_classes, texts.shape[1]), dtype=np.float64)
    inverse = np.empty((len(plan.steps), plan.n_classes), dtype=np.float32)
    for k, step in enumerate(plan.steps):
        new = texts[step.start : step.stop]
        for layer in step.layers:
            # No class is twice in a layer, so the augmented assignment is right for index arrays too.
            sums[layer.classes] += new[layer.columns]
        norms = np.linalg.norm(sums, axis=1)
        inverse[k] = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 1e-6)
    return ScaledSums(inverse)


def mean_similarity(plan: LadderPlan) -> ScaledSums:
    """The score of a class is the mean of the cosines of its categories."""
    return ScaledSums(np.reciprocal(plan.class_counts.astype(np.float32)))


class LogSumExp:
    """The score of a class is log(sum of exp(t s)) / t over the cosines s of its categories, t the logit scale.

    Thus the softmax of t times the class scores gives each class the sum of the probabilities that the softmax over
    all categories gives to its own. Kept as the running maximum m and the sum of exp(t (s - m)), which neither
    overflows nor vanishes.
    """

    needs = Needs(exp_sums=True)

    def __init__(self, logit_scale: float) -> None:
        self.scale = np.float32(logit_scale)

    def class_scores(self, running: Running, step: int, out: Float32) -> None:
        """Write the scores, from maxima and sums."""
        np.log(running.exp_sums[: len(out)], out=out)
        out /= self.scale
        out += running.maxima[: len(out)]


class TopMean:
    """The score of a class is the mean of the k best cosines of its categories, of all where it has fewer.

    Attributes:
        kept: how many of the best count; a class never has more than it has in the end, however large k is.
        counts: int64[S, n_classes], the categories of each class.
        weights: float32[S, n_classes], one through how many count.
    """

    def __init__(self, plan: LadderPlan, k: int) -> None:
        self.counts = plan.class_counts
        self.kept = min(k, int(self.counts.max()))
        self.needs = Needs(best=self.kept)
        self.weights = (1 / np.minimum(self.counts, self.kept)).astype(np.float32)

    def class_scores(self, running: Running, step: int, out: Float32) -> None:
        """Write the means of the best."""
        counts = self.counts[step]
        np.copyto(out, running.maxima[: len(out)])
        for place, others in enumerate(running.others[: self.kept - 1], start=1):
            if (there := counts > place).all():
                out += others[: len(out)]
            elif there.any():
                out[:, there] += others[: len(out), there]
        out *= self.weights[step]


CLASS_SCORES = ("mean-embedding", "mean-similarity", "logsumexp", "top-3-mean")
"""The aggregations with a score for every class; any k from 1 to 999 can stand for the 3 of `top-3-mean`."""

_TOP_MEAN = re.compile(r"top-([1-9]\d{0,2})-mean")


def rule_of(aggregation: str, plan: LadderPlan, texts: Float32, logit_scale: float) -> Rule:
    """Return the rule of an aggregation.

    Args:
        aggregation: one of `CLASS_SCORES`.
        plan: the ladder.
        texts: float32[m, d], its text embeddings.
        logit_scale: the factor before the softmax, which `logsumexp` uses.

    Raises:
        SemscaleError: for an unknown aggregation.
    """
    if aggregation == "mean-embedding":
        return mean_embedding(plan, texts)
    if aggregation == "mean-similarity":
        return mean_similarity(plan)
    if aggregation == "logsumexp":
        return LogSumExp(logit_scale)
    if match := _TOP_MEAN.fullmatch(aggregation):
        return TopMean(plan, int(match[1]))
    known = ", ".join(("max", *CLASS_SCORES))
    raise SemscaleError("unknown aggregation", found=repr(aggregation), expected=f"one of {known}")
