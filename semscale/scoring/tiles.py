"""Tiles: parts of a block of images that fit into the CPU cache, scored step by step in float32."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from semscale.scoring.accumulators import Accumulators, RequiredStatistics, Workspace
from semscale.scoring.aggregations import Aggregation, cosine_bound
from semscale.scoring.decisions import Bool, Decider, NearTies, PredictionArrays, count_true
from semscale.scoring.plan import Float32, Int32

ORACLE = RequiredStatistics(best=1, minima=True)
"""Statistics required by the oracle accuracy."""

_TILE_BYTES = 1024 * 1024
# near ties that are collected before they are decided
_MAX_NEAR_TIES = 1 << 19


def tile_rows(n_classes: int, rows: int) -> int:
    """Return the number of images of a tile: about one megabyte of class scores, at most a block.

    >>> tile_rows(1000, 2048), tile_rows(10, 2048), tile_rows(10**6, 2048)
    (256, 2048, 32)
    """
    fitting = _TILE_BYTES // (4 * n_classes) // 32 * 32
    return min(max(32, fitting), rows)


class BlockScorer:
    """Scorer of blocks in one thread: one matrix product per step, evaluated tile by tile.

    Args:
        decider: the ladder, and the decisions of near ties.
        aggregations: by name.
        rows: the largest number of images in a block.
        logit_scale: the factor before the softmax.
        oracle: whether the oracle accuracy is requested.
    """

    def __init__(
        self, decider: Decider, aggregations: Mapping[str, Aggregation], rows: int, logit_scale: float, oracle: bool
    ) -> None:
        self._decider, self._aggregations, self._scale = decider, aggregations, np.float32(logit_scale)
        required = [each.required for each in aggregations.values()]
        union = RequiredStatistics.union([*required, ORACLE] if oracle else required)
        n_classes, tile = decider.plan.n_classes, tile_rows(decider.plan.n_classes, rows)
        self._tiles = [
            (slice(first, first + tile), Accumulators(tile, n_classes, union, logit_scale))
            for first in range(0, rows, max(1, tile))
        ]
        self._workspace = Workspace(tile, n_classes)
        self._product = np.empty(rows * decider.plan.widest, dtype=np.float32)
        self._near = {name: NearTies() for name in aggregations}
        self._near_oracle = NearTies()

    def score(self, images: Float32, true_class: Int32, outs: Mapping[str, PredictionArrays], oracle: Bool) -> None:
        """Score a block.

        Args:
            images: float32[rows, d], contiguous.
            true_class: int32[rows].
            outs: output arrays of each aggregation.
            oracle: output, bool[rows, S], or no columns if not requested.
        """
        size = self._decider.size
        tiles = [(rows, tile) for rows, tile in self._tiles if rows.start < len(images)]
        for k, step in enumerate(self._decider.plan.steps):
            width = step.stop - step.start
            similarities = self._product[: len(images) * width].reshape(len(images), width)
            np.matmul(images, self._decider.texts[step.start : step.stop].T, out=similarities)
            gaps = {name: 2 * each.error_bound(k, size) for name, each in self._aggregations.items()}
            for rows, tile in tiles:
                self._update(tile, k, similarities[rows])
                buffer = self._workspace.floats(0, (len(true_class[rows]), self._decider.plan.n_classes))
                for name, aggregation in self._aggregations.items():
                    scores = aggregation.class_scores(tile, k, buffer)
                    out = outs[name].view(rows)
                    tied_rows, near = self._propose(scores, true_class[rows], k, gaps[name], out)
                    self._near[name].add(tied_rows + rows.start, k, near)
                if oracle.shape[1]:
                    gap = 2 * cosine_bound(images.shape[1], size)
                    tied_rows, near = _propose_oracle(tile, true_class[rows], gap, oracle[rows, k])
                    self._near_oracle.add(tied_rows + rows.start, k, near)
            last = k == len(self._decider.plan.steps) - 1
            for name, ties in self._near.items():
                if last or ties.size > _MAX_NEAR_TIES:
                    self._decider.decide(self._aggregations[name], images, true_class, ties, outs[name])
            if last or self._near_oracle.size > _MAX_NEAR_TIES:
                self._decider.decide_oracle(images, true_class, self._near_oracle, oracle)

    def _update(self, tile: Accumulators, k: int, similarities: Float32) -> None:
        first, *further = self._decider.plan.steps[k].layers
        if k == 0:
            tile.begin(first, similarities)
        else:
            tile.update(first, similarities, self._workspace)
        for layer in further:
            tile.update(layer, similarities, self._workspace)

    def _propose(
        self, scores: Float32, true_class: Int32, k: int, gap: float, out: PredictionArrays
    ) -> tuple[NDArray[np.int64], Bool]:
        """Write column k from scores, float32[rows, n_classes].

        Returns:
            The images with a near tie, whose prediction or rank depends on scores closer than `gap`, int64[q], and the
            classes in it, bool[q, n_classes]. Their rank counts the other classes that are before the true one.
        """
        rows = np.arange(len(scores))
        if out.confidence.shape[1]:
            self._write_confidence(scores, out.confidence[:, k])
        true_score = scores[rows, true_class]
        scores[rows, true_class] = -np.inf
        rival = scores.argmax(axis=1)
        rival_score = scores[rows, rival]
        scores[rows, true_class] = true_score
        out.margin[:, k] = true_score - rival_score
        out.predicted_class[:, k] = np.where(rival_score > true_score, rival, true_class)
        out.true_rank[:, k] = 0
        # only images in which the true class is not certainly first need more work
        open_rows = np.flatnonzero(rival_score >= true_score - gap)
        open_scores, true_score = scores[open_rows], true_score[open_rows, None]
        top = np.maximum(true_score, rival_score[open_rows, None]) - gap
        certain = count_true(open_scores > true_score + gap)
        out.true_rank[open_rows, k] = certain
        tied = count_true(open_scores >= true_score - gap) > certain + 1
        several = np.flatnonzero(certain > 1)
        tied[several] |= count_true(open_scores[several] >= top[several]) > 1
        tied_rows, tied_scores, true_score, top = open_rows[tied], open_scores[tied], true_score[tied], top[tied]
        near = (np.abs(tied_scores - true_score) <= gap) | (tied_scores >= top)
        out.true_rank[tied_rows, k] = count_true((tied_scores > true_score) & ~near)
        return tied_rows, near

    def _write_confidence(self, scores: Float32, out: Float32) -> None:
        # with the best score shifted to 0 no term overflows, and its probability is 1 / (sum of terms)
        terms = self._workspace.floats(1, scores.shape)
        np.subtract(scores, scores.max(axis=1, keepdims=True), out=terms)
        terms *= self._scale
        np.exp(terms, out=terms)
        out[:] = 1 / terms.sum(axis=1)


def _propose_oracle(tile: Accumulators, true_class: Int32, gap: float, out: Bool) -> tuple[NDArray[np.int64], Bool]:
    """Write the oracle, bool[rows]: whether some choice of categories labels the image correctly; return near ties.

    A choice is any subset of the categories of a step with at least one of every class (without categories a class
    could not be predicted, and dropping all rivals would make every image correct). Under `max` the choice that favours
    the true class most has its best category and only the worst one of each other class, so an image can be labelled
    correctly exactly when its best similarity to the true class is above the largest of the other classes' smallest
    similarities. The choice may differ between images: the oracle accuracy is an upper bound of all choices. It never
    decreases along a nested ladder, and equals the accuracy at scale 1 except for ties, which count as wrong here.
    """
    rows = np.arange(len(true_class))
    minima = tile.minima[: len(rows)]
    true_minima = minima[rows, true_class]
    minima[rows, true_class] = -np.inf
    floor = minima.max(axis=1)
    lead = tile.maxima[rows, true_class] - floor
    out[:] = lead > 0
    tied_rows = np.flatnonzero(np.abs(lead) <= gap)
    near = minima[tied_rows] >= (floor[tied_rows] - gap)[:, None]
    near[np.arange(len(tied_rows)), true_class[tied_rows]] = True
    minima[rows, true_class] = true_minima
    return tied_rows, near
