"""Aggregations of the cosines of a class's categories to a class score, in float32 and float64, with error bounds.

To add an aggregation, write a class with the methods of :class:`Aggregation` and add it to `AGGREGATIONS` and
:func:`make_aggregation`.

**Error bounds.** A float32 dot product of d terms differs from the exact one by at most gamma_d |x|.|t|, with
gamma_n = n u / (1 - n u) and u = 2^-24, in any order of summation, with fused multiply-add or without (Higham,
Accuracy and Stability of Numerical Algorithms, 2nd edition, section 3.1); so it holds for any BLAS, block size, number
of threads and GPU. By Cauchy and Schwarz |x|.|t| <= ||x|| ||t|| <= g, the largest norm of an image times the largest of
a text, which are measured, since rows have unit norm only to float32. From the bound of a cosine, e = gamma_d g,
follows that of a class score, with n the number of categories of the class:

- `max`, and the smallest cosine, are cosines: e.
- `mean-similarity`, `mean-embedding`: w times a sum of n cosines. Each has the error e, their summation adds
  gamma_(n-1) n g, the weight and the product a rounding each: w n (e + gamma_(n+2) g).
- `top-k-mean`: the j-th largest of n numbers changes by no more than the numbers do: the same with min(k, n) for n.
- `logsumexp`: log(sum of exp(t s)) / t changes by no more than the cosines do, since its derivatives are positive and
  sum to 1: e. The running sum E >= 1 of exp(t (s - m)) has a relative error of at most n (n + 10) u: every update
  computes exp(-y), y = t |difference|, with a relative error of 2 u y + 8 u (the two roundings of y; exp and log are
  assumed accurate to 4 units in the last place), and y exp(-y) < 0.37, so it adds at most (0.74 n + 10) u. The
  logarithm turns it into an absolute error, which is divided by t.
"""

from __future__ import annotations

import re
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from semscale.common.errors import ConfigError
from semscale.scoring.accumulators import Accumulators, RequiredStatistics
from semscale.scoring.plan import Float32, Float64, LadderPlan

LOGIT_SCALE = 100.0
"""Logit scale of the published CLIP models (inverse temperature of the softmax)."""

AGGREGATIONS = ("max", "mean-embedding", "mean-similarity", "logsumexp", "top-3-mean")
"""Names of the aggregations; any k from 1 to 999 can replace the 3 of `top-3-mean`."""

_UNIT = 2.0**-24
# for the rounding of the bound, and for subnormal products
_SLACK, _TINY = 1.002, 1e-30
_TOP_MEAN = re.compile(r"top-([1-9]\d{0,2})-mean")

Int64 = NDArray[np.int64]


class Aggregation(Protocol):
    """Class score as a function of the cosines of the class's categories; shared by all tiles and threads."""

    required: RequiredStatistics

    def class_scores(self, accumulators: Accumulators, step: int, out: Float32) -> Float32:
        """Return float32[rows, n_classes], the scores of `rows = len(out)` images; `out` may be used as buffer."""

    def error_bound(self, step: int, size: float) -> float:
        """Return the bound of a float32 score's error, for embeddings with norms whose product is at most `size`."""

    def exact_scores(self, cosines: Float64, steps: Int64, classes: Int64) -> Float64:
        """Return scores in double precision, float64[p].

        Args:
            cosines: float64[p, w], those of one class's categories in a row, largest first, then -inf.
            steps, classes: int64[p].
        """


class Maximum:
    """Aggregation `max`, the founding study's: the cosine of the nearest category."""

    required = RequiredStatistics(best=1)

    def __init__(self, dim: int) -> None:
        self._dim = dim

    def class_scores(self, accumulators: Accumulators, step: int, out: Float32) -> Float32:
        """Return the running maxima."""
        return accumulators.maxima[: len(out)]

    def error_bound(self, step: int, size: float) -> float:
        """Return the bound of a cosine."""
        return cosine_bound(self._dim, size)

    def exact_scores(self, cosines: Float64, steps: Int64, classes: Int64) -> Float64:
        """Return the largest cosine."""
        return cosines[:, 0]


class ScaledSum:
    """Sum of the cosines of a class's categories, divided by a number per step and class.

    Args:
        divisors: float64[S, n_classes].
        counts: int64[S, n_classes], the number of categories of each class.
        dim: the length of the embeddings.
    """

    required = RequiredStatistics(sums=True)

    def __init__(self, divisors: Float64, counts: Int64, dim: int) -> None:
        self._divisors, self._counts = divisors, counts
        self.weights = (1 / divisors).astype(np.float32)
        self._error = _weighted_error(self.weights, counts, dim)

    def class_scores(self, accumulators: Accumulators, step: int, out: Float32) -> Float32:
        """Return the weighted sums."""
        np.multiply(accumulators.sums[: len(out)], self.weights[step], out=out)
        return out

    def error_bound(self, step: int, size: float) -> float:
        """Return the largest bound over all classes."""
        return float(self._error[step]) * size + _TINY

    def exact_scores(self, cosines: Float64, steps: Int64, classes: Int64) -> Float64:
        """Return the scaled sums."""
        return _leading_sum(cosines, self._counts[steps, classes]) / self._divisors[steps, classes]


def mean_embedding(plan: LadderPlan, texts: Float32) -> ScaledSum:
    """Return the aggregation `mean-embedding`: the cosine with the normalised mean of the class's text embeddings.

    Since <x, sum of t> / |sum of t| is linear in x, it is the sum of the similarities divided by the norm of the sum of
    the text embeddings. A class whose embeddings cancel scores 0.
    """
    sums = np.zeros((plan.n_classes, texts.shape[1]), dtype=np.float64)
    norms = np.empty(plan.class_counts.shape, dtype=np.float64)
    for k, step in enumerate(plan.steps):
        new = texts[step.start : step.stop]
        for layer in step.layers:
            # no class occurs twice in a layer, so augmented assignment is correct for index arrays too
            sums[layer.classes] += new[layer.columns]
        norms[k] = np.sqrt(tree_sum(sums**2))
    return ScaledSum(np.where(norms > 1e-6, norms, np.inf), plan.class_counts, texts.shape[1])


class LogSumExp:
    """Aggregation `logsumexp`: log(sum of exp(t s)) / t over the cosines s of a class's categories, t the logit scale.

    Thus the softmax of t times the class scores gives each class the sum of the probabilities of its categories in the
    softmax over all categories. Stored as the running maximum m and the sum of exp(t (s - m)), which neither overflows
    nor underflows.
    """

    required = RequiredStatistics(exp_sums=True)

    def __init__(self, plan: LadderPlan, dim: int, logit_scale: float) -> None:
        self.scale = np.float32(logit_scale)
        self._counts, self._dim = plan.class_counts, dim

    def class_scores(self, accumulators: Accumulators, step: int, out: Float32) -> Float32:
        """Return the scores from maxima and sums."""
        np.log(accumulators.exp_sums[: len(out)], out=out)
        out /= self.scale
        out += accumulators.maxima[: len(out)]
        return out

    def error_bound(self, step: int, size: float) -> float:
        """Return the bound of the class with the most categories."""
        n = int(self._counts[step].max())
        relative = n * (n + 10) * _UNIT if n > 1 else 0.0
        of_logarithm = 1.5 * relative + 12 * _UNIT * np.log(n) if relative < 0.5 else np.inf
        rounding = 8 * _UNIT * (size + np.log(n) / float(self.scale))
        # exponents are products with the scale, rounded to float32: exp turns that into a relative error of a term
        rounding += 8 * _UNIT * size
        return float(cosine_bound(self._dim, size) + _SLACK * (of_logarithm / float(self.scale) + rounding))

    def exact_scores(self, cosines: Float64, steps: Int64, classes: Int64) -> Float64:
        """Return the logarithms, those of a single category without any rounding."""
        scale, largest = float(self.scale), cosines[:, 0]
        terms = np.exp(scale * (cosines - largest[:, None]))
        return largest + np.log(_leading_sum(terms, self._counts[steps, classes])) / scale


class TopMean:
    """Aggregation `top-k-mean`: the mean of the k largest cosines of a class's categories, of all if it has fewer.

    Attributes:
        kept: the number of largest cosines to keep: k, or the largest number of categories of a class if that is less.
        terms: int64[S, n_classes], the number of terms of each class's mean.
        weights: float32[S, n_classes], 1 / terms.
    """

    def __init__(self, plan: LadderPlan, k: int, dim: int) -> None:
        self.kept = min(k, int(plan.class_counts.max()))
        self.terms = np.minimum(plan.class_counts, self.kept)
        self.required = RequiredStatistics(best=self.kept)
        self.weights = (1 / self.terms).astype(np.float32)
        self._error = _weighted_error(self.weights, self.terms, dim)

    def class_scores(self, accumulators: Accumulators, step: int, out: Float32) -> Float32:
        """Return the means of the largest cosines."""
        terms = self.terms[step]
        np.copyto(out, accumulators.maxima[: len(out)])
        for position, runners_up in enumerate(accumulators.runners_up[: self.kept - 1], start=1):
            if (exists := terms > position).all():
                out += runners_up[: len(out)]
            elif exists.any():
                out[:, exists] += runners_up[: len(out), exists]
        out *= self.weights[step]
        return out

    def error_bound(self, step: int, size: float) -> float:
        """Return the bound of a weighted sum of the largest cosines."""
        return float(self._error[step]) * size + _TINY

    def exact_scores(self, cosines: Float64, steps: Int64, classes: Int64) -> Float64:
        """Return the means of the largest cosines."""
        terms = self.terms[steps, classes]
        return _leading_sum(cosines, terms) / terms


def make_aggregation(name: str, plan: LadderPlan, texts: Float32, logit_scale: float) -> Aggregation:
    """Return an aggregation by its name.

    Args:
        name: one of `AGGREGATIONS`.
        plan: the ladder.
        texts: float32[m, d], its text embeddings.
        logit_scale: of `logsumexp`.

    Raises:
        ConfigError: unknown aggregation.
    """
    dim = texts.shape[1]
    if name == "max":
        return Maximum(dim)
    if name == "mean-embedding":
        return mean_embedding(plan, texts)
    if name == "mean-similarity":
        return ScaledSum(plan.class_counts.astype(np.float64), plan.class_counts, dim)
    if name == "logsumexp":
        return LogSumExp(plan, dim, logit_scale)
    if match := _TOP_MEAN.fullmatch(name):
        return TopMean(plan, int(match[1]), dim)
    raise ConfigError("unknown aggregation", found=repr(name), expected=f"one of {', '.join(AGGREGATIONS)}")


def cosine_bound(dim: int, size: float) -> float:
    """Return the bound of the error of a float32 dot product of `dim` terms, with norms whose product is `size`.

    >>> 3.05e-5 < cosine_bound(512, 1.0) < 3.1e-5
    True
    """
    # four units in the last place cover the rounding of thresholds and differences
    return float(_SLACK * (_gamma(dim) + 4 * _UNIT) * size + _TINY)


def tree_sum(terms: Float64) -> Float64:
    """Return the pairwise sum over the last axis; overwrites the terms.

    The sequence of additions depends on the length alone, so the result is bitwise equal on every machine, whereas
    numpy and BLAS choose the sequence by shape and processor.
    """
    while (width := terms.shape[-1]) > 1:
        half = (width + 1) // 2
        terms[..., : width - half] += terms[..., half:]
        terms = terms[..., :half]
    return terms[..., 0]


def _leading_sum(values: Float64, terms: Int64) -> Float64:
    """Return the sequential sum of the first `terms[i]` values of each row, bitwise independent of the others."""
    sums: Float64 = np.cumsum(values, axis=1)[np.arange(len(values)), terms - 1]
    return sums


def _gamma(n: NDArray[np.int64] | int) -> Float64:
    return np.asarray(n * _UNIT / (1 - n * _UNIT), dtype=np.float64)


def _weighted_error(weights: Float32, terms: Int64, dim: int) -> Float64:
    """Return the bound of a weighted sum of `terms` cosines for size 1, the largest over classes, float64[S]."""
    error = weights.astype(np.float64) * terms * (_gamma(dim) + _gamma(terms + 2) + 4 * _UNIT)
    return np.asarray(_SLACK * error.max(axis=1), dtype=np.float64)
