"""Decisions in float64: among scores too close for float32, the dot products in double precision decide.

A prediction is the argmax of the float64 dot products of the stored float32 rows, ties to the earlier category; for an
aggregation the class scores computed from them decide, ties to the earlier class. So are the rank of the true class and
the oracle accuracy. The float32 product only proposes: two scores further apart than twice their error bound (see
:mod:`semscale.scoring.aggregations`) are in the right order, and the few that are not are computed again here. The
product of two float32 numbers is exact in float64, and the order of their summation is fixed
(:func:`semscale.scoring.aggregations.tree_sum`), so the same two rows give the same number on every machine.
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

# numbers in work at once: products of float64, cosines of near ties or of predicted classes
_PRODUCTS, _COSINES = 1 << 17, 1 << 20


@dataclass(frozen=True, slots=True)
class Answers:
    """Where the scorer of an aggregation writes: arrays [rows, S], the confidence [rows, 0] unless requested."""

    predicted_class: Int32
    true_rank: Int32
    margin: Float32
    confidence: Float32

    @staticmethod
    def empty(rows: int, n_steps: int, confidence: bool) -> Answers:
        """Return uninitialised arrays."""
        return Answers(
            predicted_class=np.empty((rows, n_steps), dtype=np.int32),
            true_rank=np.empty((rows, n_steps), dtype=np.int32),
            margin=np.empty((rows, n_steps), dtype=np.float32),
            confidence=np.empty((rows, n_steps if confidence else 0), dtype=np.float32),
        )

    def part(self, rows: slice) -> Answers:
        """Return views of the rows of some images."""
        return Answers(self.predicted_class[rows], self.true_rank[rows], self.margin[rows], self.confidence[rows])


@dataclass
class NearTies:
    """Classes whose order float32 leaves open, as triples of image, step and class; the true class is always among
    those of an image and step.

    Attributes:
        parts: int64[3, t] each.
        size: number of triples.
    """

    parts: list[Int64] = field(default_factory=list)
    size: int = 0

    def add(self, rows: Int64, step: int, near: Bool) -> None:
        """Add bool[len(rows), n_classes], the classes that are close, of some images."""
        if not len(rows):
            return
        row, classes = np.nonzero(near)
        self.parts.append(np.stack([rows[row], np.full(len(row), step), classes]))
        self.size += len(row)

    def take(self, n_steps: int, most: int) -> Iterator[tuple[Int64, Int64, Int64]]:
        """Yield and forget rows, steps and classes, about `most` at a time; an image and step is never split."""
        if not self.size:
            return
        triples = np.concatenate(self.parts, axis=1)
        self.parts, self.size = [], 0
        triples = triples[:, np.lexsort(triples[::-1])]
        groups = triples[0] * n_steps + triples[1]
        starts = np.flatnonzero(np.diff(groups, prepend=-1))
        cuts = [*np.unique(np.searchsorted(starts, np.arange(0, len(groups), most), side="right") - 1).tolist()]
        for start, stop in zip(starts[cuts].tolist(), [*starts[cuts[1:]].tolist(), len(groups)], strict=True):
            rows, steps, classes = triples[:, start:stop]
            yield rows, steps, classes


class Decider:
    """Decides near ties of a ladder's classes and categories.

    Args:
        plan: the ladder.
        texts: float32[m, d], its text embeddings.
        images: float32[n, d], all that are scored.

    Attributes:
        size: the largest norm of an image times the largest of a text, which error bounds are multiples of.
    """

    def __init__(self, plan: LadderPlan, texts: Float32, images: Float32) -> None:
        self.plan, self.texts = plan, texts
        self._totals = plan.class_counts[-1]
        self._most = max(1, _COSINES // int(self._totals.max()))
        self.size = largest_norm(images) * largest_norm(texts)

    def decide(
        self, aggregation: Aggregation, images: Float32, true_class: Int32, near: NearTies, out: Answers
    ) -> None:
        """Correct predictions and ranks.

        Args:
            aggregation: whose scores are compared.
            images: float32[rows, d].
            true_class: int32[rows].
            near: the near ties of these images, which are taken.
            out: the answers for these images; where there is a near tie, its rank counts only the classes that are
                certainly before the true one and not among the triples.
        """
        for rows, steps, classes in near.take(len(self.plan.steps), self._most):
            cosines, texts = self._offered_cosines(images, rows, steps, classes)
            scores = aggregation.exact_scores(-np.sort(-cosines, axis=1), steps, classes)
            # a tie for the first place goes to the earlier category, which may be of a later class
            priority = texts[np.arange(len(rows)), cosines.argmax(axis=1)] if _is_max(aggregation) else classes
            keys = rows * len(self.plan.steps) + steps
            order = np.lexsort((priority, -scores, keys))
            _, first, group = np.unique(keys[order], return_index=True, return_inverse=True)
            best = order[first]
            row, step, predicted, true = rows[best], steps[best], classes[best], true_class[rows[best]]
            scores, classes = scores[order], classes[order]
            own = scores[classes == true[group]]
            before = (scores > own[group]) | ((scores == own[group]) & (classes < true[group]))
            rank = out.true_rank[row, step] + np.bincount(group, before).astype(np.int32)
            rank += (scores[first] == own) & (predicted > true)
            out.predicted_class[row, step] = predicted
            out.true_rank[row, step] = np.where(predicted == true, 0, rank)

    def decide_oracle(self, images: Float32, true_class: Int32, near: NearTies, oracle: Bool) -> None:
        """Correct bool[rows, S], whether the best category of the true class is above the worst of all others."""
        for rows, steps, classes in near.take(len(self.plan.steps), self._most):
            cosines, _ = self._offered_cosines(images, rows, steps, classes)
            is_true = classes == true_class[rows]
            worst = np.where(is_true, -np.inf, np.where(np.isinf(cosines), np.inf, cosines).min(axis=1))
            _, first, group = np.unique(rows * len(self.plan.steps) + steps, return_index=True, return_inverse=True)
            floor = np.full(len(first), -np.inf)
            np.maximum.at(floor, group, worst)
            oracle[rows[first], steps[first]] = cosines[is_true].max(axis=1) > floor

    def nearest_categories(self, images: Float32, predicted_class: Int32) -> Int32:
        """Return int32[n, a * S]: of the categories of the predicted class the nearest, of equal ones the earlier.

        Args:
            images: float32[n, d].
            predicted_class: int32[n, a * S], the steps of one aggregation after the other.
        """
        found = np.empty(predicted_class.shape, dtype=np.int32)
        chunk = max(256, _COSINES // int(self._totals.max()))
        for start in range(0, len(images), chunk):
            part = slice(start, start + chunk)
            found[part] = self._nearest_categories(images[part], predicted_class[part])
        return found

    def _nearest_categories(self, images: Float32, predicted: Int32) -> Int32:
        changes = np.diff(predicted, axis=1, prepend=-1) != 0
        row, column = np.nonzero(changes)
        # unique pairs of class and image, ordered by class, so that every class takes one small product
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
        found: Int32 = self.plan.by_class[self.plan.class_starts[predicted] + position].astype(np.int32)
        return found

    def _prefix_argmax(self, proposed: Float32, images: Float32, rows: Int64, classes: Int64) -> Int64:
        """Return int64[p, w]: the position of the nearest text among the first, the first two, ... of a class."""
        cosines: Float32 | Float64 = proposed
        highest = np.maximum.accumulate(cosines, axis=1)
        gap = 2 * cosine_bound(images.shape[1], self.size)
        close = np.flatnonzero((np.abs(cosines[:, 1:] - highest[:, :-1]) <= gap).any(axis=1))
        if len(close):
            cosines = cosines.astype(np.float64)
            cosines[close] = self._class_cosines(images, rows[close], classes[close], cosines.shape[1])[0]
        return prefix_argmax(cosines)

    def _texts_of(self, owner: int) -> Int64:
        start = self.plan.class_starts[owner]
        return self.plan.by_class[start : start + self._totals[owner]]

    def _class_cosines(self, images: Float32, rows: Int64, classes: Int64, width: int) -> tuple[Float64, Int64]:
        """Return float64[p, width], cosines of images with all texts of a class each, then -inf; and which texts."""
        totals = self._totals[classes]
        pair = np.repeat(np.arange(len(rows)), totals)
        position = np.arange(len(pair)) - np.repeat(np.cumsum(totals) - totals, totals)
        texts = np.full((len(rows), width), -1, dtype=np.int64)
        texts[pair, position] = self.plan.by_class[self.plan.class_starts[classes[pair]] + position]
        cosines = np.full(texts.shape, -np.inf)
        cosines[pair, position] = exact_cosines(images, self.texts, rows[pair], texts[pair, position])
        return cosines, texts

    def _offered_cosines(self, images: Float32, rows: Int64, steps: Int64, classes: Int64) -> tuple[Float64, Int64]:
        """Return the cosines of the categories that are offered at each step, float64[t, w], and all texts."""
        pairs, index = np.unique(rows * self.plan.n_classes + classes, return_inverse=True)
        pair_rows, owners = np.divmod(pairs, self.plan.n_classes)
        cosines, texts = self._class_cosines(images, pair_rows, owners, int(self._totals[owners].max()))
        offered = np.arange(texts.shape[1]) < self.plan.class_counts[steps, classes][:, None]
        return np.where(offered, cosines[index], -np.inf), texts[index]


def exact_cosines(images: Float32, texts: Float32, rows: Int64, columns: Int64) -> Float64:
    """Return float64[p], the dot products of images `rows` and texts `columns`, each int64[p].

    >>> rows = np.array([[0.5, 0.25], [1, 2]], dtype=np.float32)
    >>> exact_cosines(rows, rows, np.array([0, 1]), np.array([1, 1])).tolist()
    [1.0, 5.0]
    """
    found = np.empty(len(rows), dtype=np.float64)
    chunk = max(1, _PRODUCTS // images.shape[1])
    for first in range(0, len(rows), chunk):
        part = slice(first, first + chunk)
        found[part] = tree_sum(np.multiply(images[rows[part]], texts[columns[part]], dtype=np.float64))
    return found


def prefix_argmax(rows: Float32 | Float64) -> Int64:
    """Return int64[n, w]: the position of the largest of the first, the first two, ... numbers of each row.

    >>> prefix_argmax(np.array([[0.5, 0.5, 0.7]])).tolist()
    [[0, 0, 2]]
    """
    highest = np.maximum.accumulate(rows, axis=1)
    position = np.zeros(rows.shape, dtype=np.int64)
    position[:, 1:] = np.where(rows[:, 1:] > highest[:, :-1], np.arange(1, rows.shape[1]), 0)
    return np.asarray(np.maximum.accumulate(position, axis=1))


def count_marks(marks: Bool) -> Int32:
    """Return int32[n], how many marks of bool[n, w] are set in each row."""
    # Counting bits of packed rows takes 0.4 of the time of marks.sum(axis=1).
    counts: Int32 = np.bitwise_count(np.packbits(marks, axis=1)).sum(axis=1, dtype=np.int32)
    return counts


def largest_norm(rows: Float32) -> float:
    """Return the largest norm of a row, in float32, whose rounding the bounds have room for."""
    return float(np.sqrt(np.einsum("ij,ij->i", rows, rows).max(initial=0.0)))


def _is_max(aggregation: Aggregation) -> bool:
    return isinstance(aggregation, Maximum)
