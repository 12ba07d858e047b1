"""Tiles: parts of a block of images, small enough for the processor's cache, scored step by step in float32."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from semscale.scoring.accumulators import Accumulators, RequiredStatistics, Workspace
from semscale.scoring.aggregations import Aggregation, cosine_bound
from semscale.scoring.decisions import Answers, Bool, Decider, NearTies, count_marks
from semscale.scoring.plan import Float32, Int32

ORACLE = RequiredStatistics(best=1, minima=True)
"""What the oracle accuracy requires."""

_TILE_BYTES = 1024 * 1024
# near ties that are kept until the end of a block
_MOST_NEAR_TIES = 1 << 19


def tile_rows(n_classes: int, rows: int) -> int:
    """Return how many images a tile has: about one megabyte of class scores, and never more than the block.

    >>> tile_rows(1000, 2048), tile_rows(10, 2048), tile_rows(10**6, 2048)
    (256, 2048, 32)
    """
    fitting = _TILE_BYTES // (4 * n_classes) // 32 * 32
    return min(max(32, fitting), rows)


class BlockScorer:
    """Scores one block after the other, in one thread: one product per step, evaluated tile by tile.

    Args:
        decider: the ladder, and what decides near ties.
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
        both = RequiredStatistics.union([*required, ORACLE] if oracle else required)
        n_classes, tile = decider.plan.n_classes, tile_rows(decider.plan.n_classes, rows)
        self._tiles = [
            (slice(first, first + tile), Accumulators(tile, n_classes, both, logit_scale))
            for first in range(0, rows, max(1, tile))
        ]
        self._workspace = Workspace(tile, n_classes)
        self._product = np.empty(rows * decider.plan.widest, dtype=np.float32)
        self._near = {name: NearTies() for name in aggregations}
        self._near_oracle = NearTies()

    def score(self, images: Float32, true_class: Int32, outs: Mapping[str, Answers], oracle: Bool) -> None:
        """Score a block.

        Args:
            images: float32[rows, d], contiguous.
            true_class: int32[rows].
            outs: where the answers of each aggregation go.
            oracle: bool[rows, S], or no columns where it is not requested.
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
                scratch = self._workspace.floats(0, (len(true_class[rows]), self._decider.plan.n_classes))
                for name, aggregation in self._aggregations.items():
                    scores = aggregation.class_scores(tile, k, scratch)
                    part = outs[name].part(rows)
                    doubtful, near = self._propose(scores, true_class[rows], k, gaps[name], part)
                    self._near[name].add(doubtful + rows.start, k, near)
                if oracle.shape[1]:
                    gap = 2 * cosine_bound(images.shape[1], size)
                    doubtful, near = _propose_oracle(tile, true_class[rows], gap, oracle[rows, k])
                    self._near_oracle.add(doubtful + rows.start, k, near)
            last = k == len(self._decider.plan.steps) - 1
            for name, ties in self._near.items():
                if last or ties.size > _MOST_NEAR_TIES:
                    self._decider.decide(self._aggregations[name], images, true_class, ties, outs[name])
            if last or self._near_oracle.size > _MOST_NEAR_TIES:
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
        self, scores: Float32, true_class: Int32, k: int, gap: float, out: Answers
    ) -> tuple[NDArray[np.int64], Bool]:
        """Fill column k from float32[rows, n_classes] scores.

        Returns:
            Images whose prediction or rank is open because scores are closer than `gap`, int64[q], and which classes
            these are, bool[q, n_classes]. Their rank counts the other classes that are before the true one.
        """
        rows = np.arange(len(scores))
        if out.confidence.shape[1]:
            self._write_confidence(scores, out.confidence[:, k])
        own = scores[rows, true_class]
        scores[rows, true_class] = -np.inf
        rival = scores.argmax(axis=1)
        rival_score = scores[rows, rival]
        scores[rows, true_class] = own
        out.margin[:, k] = own - rival_score
        out.predicted_class[:, k] = np.where(rival_score > own, rival, true_class)
        out.true_rank[:, k] = 0
        # in most images the true class is clearly first, and these are done
        behind = np.flatnonzero(rival_score >= own - gap)
        ahead, own = scores[behind], own[behind, None]
        top = np.maximum(own, rival_score[behind, None]) - gap
        certain = count_marks(ahead > own + gap)
        out.true_rank[behind, k] = certain
        doubtful = count_marks(ahead >= own - gap) > certain + 1
        several = np.flatnonzero(certain > 1)
        doubtful[several] |= count_marks(ahead[several] >= top[several]) > 1
        behind, ahead, own, top = behind[doubtful], ahead[doubtful], own[doubtful], top[doubtful]
        near = (np.abs(ahead - own) <= gap) | (ahead >= top)
        out.true_rank[behind, k] = count_marks((ahead > own) & ~near)
        return behind, near

    def _write_confidence(self, scores: Float32, out: Float32) -> None:
        # With the best score at 0 no term overflows, and the best one's own probability is 1 / (sum of terms).
        terms = self._workspace.floats(1, scores.shape)
        np.subtract(scores, scores.max(axis=1, keepdims=True), out=terms)
        terms *= self._scale
        np.exp(terms, out=terms)
        out[:] = 1 / terms.sum(axis=1)


def _propose_oracle(tile: Accumulators, true_class: Int32, gap: float, out: Bool) -> tuple[NDArray[np.int64], Bool]:
    """Fill bool[rows], which images some choice of the offered categories would label right, and return near ties.

    A choice keeps any subset of the categories of a step, at least one for every class (a class without a
    category could not be predicted at all, and dropping all rivals would make every image right). Under `max`
    aggregation the choice that favours the true class most keeps its own best category and of each other class
    only the worst one, so an image can be labelled right exactly when its best own similarity is above the
    largest of the other classes' smallest similarities. The choice may differ from image to image: this is
    the ceiling of every way of choosing, not a set that exists. It never falls along a nested ladder, and at
    scale 1 it is the accuracy itself, but for ties, which are no win here.
    """
    rows = np.arange(len(true_class))
    minima = tile.minima[: len(rows)]
    own = minima[rows, true_class]
    minima[rows, true_class] = -np.inf
    floor = minima.max(axis=1)
    lead = tile.maxima[rows, true_class] - floor
    out[:] = lead > 0
    doubtful = np.flatnonzero(np.abs(lead) <= gap)
    near = minima[doubtful] >= (floor[doubtful] - gap)[:, None]
    near[np.arange(len(doubtful)), true_class[doubtful]] = True
    minima[rows, true_class] = own
    return doubtful, near
