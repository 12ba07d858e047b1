"""Peak of a curve: its permutation test, and an estimate of its change without selection bias."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from semscale.analysis.answer_patterns import CorrectnessPatterns, Float64
from semscale.analysis.bootstrap import REPLICATES

SPLITS = 200
"""Random splits of the images for the corrected change."""


@dataclass(frozen=True)
class Peak:
    """The first step that reaches the highest accuracy, and its change from the first step.

    The change is never negative, and biased upwards; `corrected` is the mean over splits in which one half of the
    images selects the step and the other half measures it: without selection bias, may be negative. `null_mean` is the
    mean change under the permutation null; `p` the probability of a change at least this large, see :func:`find_peak`.
    """

    step: int
    change: float
    corrected: float
    null_mean: float
    p: float


def find_peak(patterns: CorrectnessPatterns, curves: Float64, permutations: int = REPLICATES, seed: int = 0) -> Peak:
    """Return the peak with the p-value of its change.

    A maximum over steps is large by chance alone, so it is compared with maxima of constant curves, under two null
    distributions; `p` is the larger of the two p-values:

    - the predictions of every image permuted over its steps (:func:`permuted_peaks`), exact when steps are
      exchangeable;
    - the replicates of the curve, centred. Steps of a nested ladder are not quite exchangeable: neighbours share most
      of their categories, so distant steps differ more from the first one than permuted predictions do, and the
      permutation alone would reject too often.

    `curves` are the float64[B, S] of :func:`semscale.analysis.bootstrap.resample`.

    >>> from semscale.analysis.bootstrap import resample
    >>> from semscale.analysis.answer_patterns import count_patterns
    >>> noise = count_patterns(np.random.default_rng(1).random((500, 12)) < 0.7)
    >>> peak = find_peak(noise, resample(noise))
    >>> round(peak.change, 3), round(peak.null_mean, 3), peak.p > 0.2
    (0.008, 0.032, True)
    """
    rng = np.random.default_rng(seed)
    accuracy = patterns.accuracy()
    changes = accuracy - accuracy[0]
    step = int(accuracy.argmax())
    change = float(changes[step])
    permuted = permuted_peaks(patterns, permutations, rng)
    centred = (curves - curves[:, :1] - changes).max(axis=1)
    p = max(_p_value(permuted, change), _p_value(centred, change))
    return Peak(step, change, split_peak(patterns, rng), float(permuted.mean()), p)


def permuted_peaks(patterns: CorrectnessPatterns, permutations: int, rng: np.random.Generator) -> Float64:
    """Return changes from the first step to the peak, float64[permutations], after permuting steps within images.

    For one order the draw is exact and costs the same for any number of images: step by step, an image with r correct
    predictions remaining for the k remaining steps is correct with probability r / k, so all images with the same r
    need one binomial draw. With several orders the sums over orders are permuted; the means over images are drawn from
    the normal distribution with the permutation's exact covariance, v (I - 1/S) S / (S - 1) with v the mean variance
    within images over n.
    """
    steps, n = patterns.n_steps, patterns.n_images
    if patterns.n_orders == 1:
        # images[b, r]: how many of permutation b have r correct predictions remaining
        totals = np.bincount(patterns.rows[:, 0].sum(axis=1), weights=patterns.counts, minlength=steps + 1)
        images = np.tile(totals.astype(np.int64), (permutations, 1))
        correct = np.empty((permutations, steps))
        remaining = np.arange(steps + 1)
        for step in range(steps):
            drawn = rng.binomial(images, np.minimum(remaining / (steps - step), 1.0))
            correct[:, step] = drawn.sum(axis=1)
            images -= drawn
            images[:, :-1] += drawn[:, 1:]
        curves = correct / n
    else:
        sums = patterns.rows.mean(axis=1)
        v = float(patterns.counts @ sums.var(axis=1)) / n**2
        noise = rng.standard_normal((permutations, steps))
        curves = (noise - noise.mean(axis=1, keepdims=True)) * np.sqrt(v * steps / max(1, steps - 1))
    return np.asarray((curves - curves[:, :1]).max(axis=1), np.float64)


def split_peak(patterns: CorrectnessPatterns, rng: np.random.Generator, splits: int = SPLITS) -> float:
    """Return the mean change at a peak selected on a random half of the images and measured on the other half."""
    counts = patterns.counts
    rows = patterns.rows.mean(axis=1)
    first = rng.binomial(counts, 0.5, size=(splits, len(counts)))
    first = first[(first.sum(axis=1) > 0) & (first.sum(axis=1) < patterns.n_images)]
    if not len(first):
        return 0.0
    selected = (first @ rows).argmax(axis=1)
    second = counts - first
    measured = second @ (rows - rows[:, :1])
    return float((measured[np.arange(len(first)), selected] / second.sum(axis=1)).mean())


def _p_value(null: Float64, value: float) -> float:
    # The observed curve counts as one of the null's (R. A. Fisher's exact form), so p is never 0; equal up to rounding
    # counts as equal.
    return float((1 + (null >= value - 1e-12).sum()) / (1 + len(null)))
