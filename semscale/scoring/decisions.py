"""Decisions in float64 between scores that are too close for float32.

A prediction is the argmax of the float64 dot products of the stored float32 rows, ties to the earlier category; other
aggregations compare the class scores computed from them, ties to the earlier class. The rank of the true class and the
oracle accuracy follow the same rule. The float32 product only proposes: two scores further apart than twice their error
bound (see :mod:`semscale.scoring.aggregations`) are in the right order; the few closer ones are recomputed here. The
product of two float32 numbers is exact in float64, and the sequence of their summation is fixed
(:func:`semscale.scoring.aggregations.tree_sum`), so the same two rows have the same dot product on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from semscale.scoring.aggregations import Aggregation, Maximum, cosine_bound, tree_sum
from semscale.scoring.plan import Float32, Float64, Int32, LadderPlan

Bool = NDArray[np.bool_]
Int64 = NDArray[np.int64]

# numbers in memory at a time: products of float64, cosines of near ties or of predicted classes
_PRODUCTS, _COSINES = 1 << 17, 1 << 20


@dataclass(frozen=True, slots=True)
class PredictionArrays:
    """Output arrays of an aggregation, [rows, S]; the confidence is [rows, 0] unless requested."""

    predicted_class: Int32
    true_rank: Int32
    margin: Float32
    confidence: Float32

    @staticmethod
    def empty(rows: int, n_steps: int, confidence: bool) -> PredictionArrays:
        """Return uninitialised arrays."""
        return PredictionArrays(
            predicted_class=np.empty((rows, n_steps), dtype=np.int32),
            true_rank=np.empty((rows, n_steps), dtype=np.int32),
            margin=np.empty((rows, n_steps), dtype=np.float32),
            confidence=np.empty((rows, n_steps if confidence else 0), dtype=np.float32),
        )

    def view(self, rows: slice) -> PredictionArrays:
        """Return views of the rows of some images."""
        return PredictionArrays(
            self.predicted_class[rows], self.true_rank[rows], self.margin[rows], self.confidence[rows]
        )


@dataclass
class NearTies:
    """Classes whose ranking float32 leaves undecided, as triples of image, step and class, always with the true class.

    Attributes:
        triples: arrays int64[3, t].
        size: number of triples.
    """

    triples: list[Int64] = field(default_factory=list)
    size: int = 0

    def add(self, rows: Int64, step: int, near: Bool) -> None:
        """Add the close classes of some images, bool[len(rows), n_classes]."""
        if not len(rows):
            return
        row, classes = np.nonzero(near)
        self.triples.append(np.stack([rows[row], np.full(len(row), step), classes]))
        self.size += len(row)

    def drain(self, n_steps: int, size: int) -> Iterator[tuple[Int64, Int64, Int64]]:
        """Yield and remove rows, steps and classes in chunks of about `size`; an image and step is never split."""
        if not self.size:
            return
        triples = np.concatenate(self.triples, axis=1)
        self.triples, self.size = [], 0
        triples = triples[:, np.lexsort(triples[::-1])]
        groups = triples[0] * n_steps + triples[1]
        starts = np.flatnonzero(np.diff(groups, prepend=-1))
        cuts = [*np.unique(np.searchsorted(starts, np.arange(0, len(groups), size), side="right") - 1).tolist()]
        for start, stop in zip(starts[cuts].tolist(), [*starts[cuts[1:]].tolist(), len(groups)], strict=True):
            rows, steps, classes = triples[:, start:stop]
            yield rows, steps, classes


class Decider:
    """Decider of near ties between a ladder's classes and categories.

    Args:
        plan: the ladder.
        texts: float32[m, d], its text embeddings.
        images: float32[n, d], all images to score.

    Attributes:
        size: the largest norm of an image times the largest of a text, to which error bounds are proportional.
    """

    def __init__(self, plan: LadderPlan, texts: Float32, images: Float32) -> None:
        self.plan, self.texts = plan, texts
        self._totals = plan.class_counts[-1]
        self._chunk = max(1, _COSINES // int(self._totals.max()))
        self.size = largest_norm(images) * largest_norm(texts)

    def decide(
        self, aggregation: Aggregation, images: Float32, true_class: Int32, near: NearTies, out: PredictionArrays
    ) -> None:
        """Correct the predictions and ranks of near ties.

        Args:
            aggregation: of the scores to compare.
            images: float32[rows, d].
            true_class: int32[rows].
            near: the near ties of these images, which are removed.
            out: the arrays of these images; for a near tie, its rank must count only the classes that are certainly
                before the true one and not among the triples.
        """
        for rows, steps, classes in near.drain(len(self.plan.steps), self._chunk):
            cosines, texts = self._offered_cosines(images, rows, steps, classes)
            scores = aggregation.exact_scores(-np.sort(-cosines, axis=1), steps, classes)
            # a tie for the first rank goes to the earlier category, which may be of a later class
            priority = texts[np.arange(len(rows)), cosines.argmax(axis=1)] if _is_max(aggregation) else classes
            keys = rows * len(self.plan.steps) + steps
            order = np.lexsort((priority, -scores, keys))
            _, first, group = np.unique(keys[order], return_index=True, return_inverse=True)
            best = order[first]
            row, step, predicted, true = rows[best], steps[best], classes[best], true_class[rows[best]]
            scores, classes = scores[order], classes[order]
            true_score = scores[classes == true[group]]
            tied = (scores == true_score[group]) & (classes < true[group])
            before = (scores > true_score[group]) | tied
            rank = out.true_rank[row, step] + np.bincount(group, before).astype(np.int32)
            rank += (scores[first] == true_score) & (predicted > true)
            out.predicted_class[row, step] = predicted
            out.true_rank[row, step] = np.where(predicted == true, 0, rank)

    def decide_oracle(self, images: Float32, true_class: Int32, near: NearTies, oracle: Bool) -> None:
        """Correct the oracle of near ties, bool[rows, S]: whether the true class's best beats every other's worst."""
        for rows, steps, classes in near.drain(len(self.plan.steps), self._chunk):
            cosines, _ = self._offered_cosines(images, rows, steps, classes)
            is_true = classes == true_class[rows]
            worst = np.where(is_true, -np.inf, np.where(np.isinf(cosines), np.inf, cosines).min(axis=1))
            _, first, group = np.unique(rows * len(self.plan.steps) + steps, return_index=True, return_inverse=True)
            floor = np.full(len(first), -np.inf)
            np.maximum.at(floor, group, worst)
            oracle[rows[first], steps[first]] = cosines[is_true].max(axis=1) > floor

    def nearest_categories(self, images: Float32, predicted_class: Int32) -> Int32:
        """Return the nearest category of the predicted class, of equal ones the earlier, int32[n, a * S].

        Args:
            images: float32[n, d].
            predicted_class: int32[n, a * S], the steps of each aggregation in turn.
        """
        nearest = np.empty(predicted_class.shape, dtype=np.int32)
        chunk = max(256, _COSINES // int(self._totals.max()))
        for start in range(0, len(images), chunk):
            part = slice(start, start + chunk)
            nearest[part] = self._nearest_categories(images[part], predicted_class[part])
        return nearest

    def _nearest_categories(self, images: Float32, predicted: Int32) -> Int32:
        changes = np.diff(predicted, axis=1, prepend=-1) != 0
        row, column = np.nonzero(changes)
        # unique pairs of class and image, sorted by class, so that every class needs one small product
        pairs, pair = np.unique(predicted[row, column].astype(np.int64) * len(images) + row, return_inverse=True)
        classes, rows = np.divmod(pairs, len(images))
        cosines = np.full((len(pairs), int(self._totals[classes].max())), -np.inf, dtype=np.float32)
        for start, stop in pairwise(np.flatnonzero(np.diff(classes, prepend=-1, append=-1)).tolist()):
            texts = self._texts_of(int(classes[start]))
            np.matmul(images[rows[start:stop]], self.texts[texts].T, out=cosines[start:stop, : len(texts)])
        prefix_argmax = self._prefix_argmax(cosines, images, rows, classes)
        steps = np.arange(predicted.shape[1]) % len(self.plan.steps)
        counts = self.plan.class_counts[steps, predicted]
        position = prefix_argmax[pair[np.cumsum(changes) - 1].reshape(predicted.shape), counts - 1]
        nearest: Int32 = self.plan.by_class[self.plan.class_starts[predicted] + position].astype(np.int32)
        return nearest

    def _prefix_argmax(self, proposed: Float32, images: Float32, rows: Int64, classes: Int64) -> Int64:
        """Return the position of the nearest text among the first 1, 2, ... w of a class, int64[p, w]."""
        cosines: Float32 | Float64 = proposed
        highest = np.maximum.accumulate(cosines, axis=1)
        gap = 2 * cosine_bound(images.shape[1], self.size)
        close = np.flatnonzero((np.abs(cosines[:, 1:] - highest[:, :-1]) <= gap).any(axis=1))
        if len(close):
            cosines = cosines.astype(np.float64)
            cosines[close] = self._class_cosines(images, rows[close], classes[close], cosines.shape[1])[0]
        return prefix_argmax(cosines)

    def _texts_of(self, class_index: int) -> Int64:
        start = self.plan.class_starts[class_index]
        return self.plan.by_class[start : start + self._totals[class_index]]

    def _class_cosines(self, images: Float32, rows: Int64, classes: Int64, width: int) -> tuple[Float64, Int64]:
        """Return cosines of images with all texts of a class, padded with -inf, float64[p, width], and the texts."""
        totals = self._totals[classes]
        pair = np.repeat(np.arange(len(rows)), totals)
        position = np.arange(len(pair)) - np.repeat(np.cumsum(totals) - totals, totals)
        texts = np.full((len(rows), width), -1, dtype=np.int64)
        texts[pair, position] = self.plan.by_class[self.plan.class_starts[classes[pair]] + position]
        cosines = np.full(texts.shape, -np.inf)
        cosines[pair, position] = exact_cosines(images, self.texts, rows[pair], texts[pair, position])
        return cosines, texts

    def _offered_cosines(self, images: Float32, rows: Int64, steps: Int64, classes: Int64) -> tuple[Float64, Int64]:
        """Return the cosines of the categories of each step, -inf for later ones, float64[t, w], and all texts."""
        pairs, index = np.unique(rows * self.plan.n_classes + classes, return_inverse=True)
        pair_rows, pair_classes = np.divmod(pairs, self.plan.n_classes)
        width = int(self._totals[pair_classes].max())
        cosines, texts = self._class_cosines(images, pair_rows, pair_classes, width)
        offered = np.arange(texts.shape[1]) < self.plan.class_counts[steps, classes][:, None]
        return np.where(offered, cosines[index], -np.inf), texts[index]


def exact_cosines(images: Float32, texts: Float32, rows: Int64, columns: Int64) -> Float64:
    """Return the dot products of images `rows` and texts `columns`, int64[p] each, as float64[p].

    >>> rows = np.array([[0.5, 0.25], [1, 2]], dtype=np.float32)
    >>> exact_cosines(rows, rows, np.array([0, 1]), np.array([1, 1])).tolist()
    [1.0, 5.0]
    """
    cosines = np.empty(len(rows), dtype=np.float64)
    chunk = max(1, _PRODUCTS // images.shape[1])
    for first in range(0, len(rows), chunk):
        part = slice(first, first + chunk)
        cosines[part] = tree_sum(np.multiply(images[rows[part]], texts[columns[part]], dtype=np.float64))
    return cosines


def prefix_argmax(rows: Float32 | Float64) -> Int64:
    """Return the position of the largest among the first 1, 2, ... w numbers of each row, int64[n, w].

    >>> prefix_argmax(np.array([[0.5, 0.5, 0.7]])).tolist()
    [[0, 0, 2]]
    """
    highest = np.maximum.accumulate(rows, axis=1)
    position = np.zeros(rows.shape, dtype=np.int64)
    position[:, 1:] = np.where(rows[:, 1:] > highest[:, :-1], np.arange(1, rows.shape[1]), 0)
    return np.asarray(np.maximum.accumulate(position, axis=1))


def count_true(mask: Bool) -> Int32:
    """Return the number of true values in each row of bool[n, w], int32[n]."""
    # Counting bits of packed rows takes 0.4 of the time of mask.sum(axis=1).
    counts: Int32 = np.bitwise_count(np.packbits(mask, axis=1)).sum(axis=1, dtype=np.int32)
    return counts


def largest_norm(rows: Float32) -> float:
    """Return the largest norm of a row, in float32; the error bounds allow for its rounding."""
    return float(np.sqrt(np.einsum("ij,ij->i", rows, rows).max(initial=0.0)))


def _is_max(aggregation: Aggregation) -> bool:
    return isinstance(aggregation, Maximum)
