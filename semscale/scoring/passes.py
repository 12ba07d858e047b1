"""The pass over one block of images: every step of the ladder, merged into running state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from semscale.scoring.aggregations import MakeClassScores
from semscale.scoring.confidence import Confidence
from semscale.scoring.plan import Float32, Int32, LadderPlan, Layer, Step
from semscale.scoring.ranking import rank_true_class

Winners = NDArray[np.unsignedinteger]


@dataclass(frozen=True, slots=True)
class Answers:
    """Where a pass writes its results: arrays [rows, S], or [rows, 0] for what is not wanted."""

    category: Int32
    true_rank: Int32
    margin: Float32
    confidence: Float32


class Pass(Protocol):
    """Works on one block after the other."""

    def run(self, images: Float32, true_class: Int32, out: Answers) -> None:
        """Score float32[rows, d] images of int32[rows] true classes and fill `out`."""


class MaxPass:
    """The study's rule: the nearest category decides, so a class scores what its nearest category scores.

    The prediction is the nearest of all texts, found by one argmax over the new texts of each step. For the
    margin the true class is kept apart: the argmax then runs over the other classes' texts. Only ranks and
    confidences need a score for every class. Of equal similarities the earlier text wins.
    """

    def __init__(
        self, plan: LadderPlan, texts: Float32, rows: int, ranks: bool, confidence: Confidence | None = None
    ) -> None:
        self._plan = plan
        self._texts = texts
        self._ranks = ranks
        self._confidence = confidence
        self._product = np.empty(rows * plan.widest, dtype=np.float32)
        self._scored = ranks or confidence is not None
        self._all_scores = np.empty((rows if self._scored else 0, plan.n_classes), dtype=np.float32)

    def run(self, images: Float32, true_class: Int32, out: Answers) -> None:
        scores = self._all_scores[: len(images)]
        scores.fill(-np.inf)
        other = _Nearest(len(images))
        true = _Nearest(len(images))
        for k, step in enumerate(self._plan.steps):
            if step.stop > step.start:
                similarities = _product(images, self._texts, step, self._product)
                if self._scored:
                    for layer in step.layers:
                        _merge_maximum(scores, layer, similarities)
                        if self._ranks:
                            true.take(*_set_apart(similarities, layer.column_of[true_class]), step.start)
                columns = similarities.argmax(axis=1)
                other.take(columns, similarities[np.arange(len(images)), columns], step.start)
            if self._confidence is not None:
                out.confidence[:, k] = self._confidence.of(scores)
            if not self._ranks:
                out.category[:, k] = other.text
                continue
            tied = true.value == other.value
            right = (true.value > other.value) | (tied & (true.text < other.text))
            out.category[:, k] = np.where(right, true.text, other.text)
            out.margin[:, k] = true.value - other.value
            rank = rank_true_class(scores, true_class, true.value)
            # A tie for the first place goes to the earlier text, which may be of a later class.
            overtaken = tied & (self._plan.class_index[other.text] > true_class)
            out.true_rank[:, k] = np.where(right, 0, rank + overtaken)


class ClassScorePass:
    """Any aggregation that has a score for every class; of equal scores the earlier class wins.

    The category of a prediction is the nearest one of the predicted class, kept as the number of the layer
    that holds the running maximum of each class.
    """

    def __init__(
        self,
        plan: LadderPlan,
        texts: Float32,
        rows: int,
        ranks: bool,
        aggregation: MakeClassScores,
        confidence: Confidence | None = None,
    ) -> None:
        self._plan = plan
        self._texts = texts
        self._ranks = ranks
        self._confidence = confidence
        self._state = aggregation(plan, texts, rows)
        self._product = np.empty(rows * plan.widest, dtype=np.float32)
        self._maxima = np.empty((rows, plan.n_classes), dtype=np.float32)
        small = len(plan.layer_texts) <= np.iinfo(np.uint8).max
        self._winners: Winners = np.empty((rows, plan.n_classes), dtype=np.uint8 if small else np.uint32)

    def run(self, images: Float32, true_class: Int32, out: Answers) -> None:
        rows = np.arange(len(images))
        maxima, winners = self._maxima[: len(images)], self._winners[: len(images)]
        maxima.fill(-np.inf)
        winners.fill(0)
        self._state.reset(len(images))
        for k, step in enumerate(self._plan.steps):
            if step.stop > step.start:
                similarities = _product(images, self._texts, step, self._product)
                for layer in step.layers:
                    self._state.update(layer, similarities)
                    _merge_winner(maxima, winners, layer, similarities)
            scores = self._state.class_scores(k)
            if self._confidence is not None:
                out.confidence[:, k] = self._confidence.of(scores)
            if self._ranks:
                true_score = scores[rows, true_class]
                out.true_rank[:, k] = rank_true_class(scores, true_class, true_score)
                scores[rows, true_class] = -np.inf
                predicted = scores.argmax(axis=1)
                out.margin[:, k] = true_score - scores[rows, predicted]
                predicted[out.true_rank[:, k] == 0] = true_class[out.true_rank[:, k] == 0]
            else:
                predicted = scores.argmax(axis=1)
            out.category[:, k] = self._plan.layer_texts[winners[rows, predicted], predicted]


class _Nearest:
    """The nearest text so far of each image of a block."""

    def __init__(self, rows: int) -> None:
        self.value = np.full(rows, -np.inf, dtype=np.float32)
        self.text = np.full(rows, -1, dtype=np.int32)

    def take(self, columns: NDArray[np.integer], values: Float32, start: int) -> None:
        """Take the texts `start + columns` where they are nearer; equal ones are later texts and lose."""
        nearer = values > self.value
        self.value[nearer] = values[nearer]
        self.text[nearer] = columns[nearer] + start


def _product(images: Float32, texts: Float32, step: Step, buffer: Float32) -> Float32:
    width = step.stop - step.start
    out = buffer[: len(images) * width].reshape(len(images), width)
    return np.matmul(images, texts[step.start : step.stop].T, out=out)


def _set_apart(similarities: Float32, columns: Int32) -> tuple[Int32, Float32]:
    """Take one similarity out of each row (none where the column is -1), leaving -inf in its place."""
    rows = np.arange(len(columns))
    values = similarities[rows, columns]
    values[columns < 0] = -np.inf
    there = columns >= 0
    similarities[rows[there], columns[there]] = -np.inf
    return columns, values


def _merge_maximum(scores: Float32, layer: Layer, similarities: Float32) -> None:
    new = similarities[:, layer.columns]
    if isinstance(layer.classes, slice):
        kept = scores[:, layer.classes]
        np.maximum(kept, new, out=kept)
    else:
        scores[:, layer.classes] = np.maximum(scores[:, layer.classes], new)


def _merge_winner(maxima: Float32, winners: Winners, layer: Layer, similarities: Float32) -> None:
    # Layer numbers only grow, so "the winner becomes this layer" is a maximum, faster than a masked copy.
    nearer = similarities[:, layer.columns] > maxima[:, layer.classes]
    mark = np.multiply(nearer, layer.number, dtype=winners.dtype)
    if isinstance(layer.classes, slice):
        kept = winners[:, layer.classes]
        np.maximum(kept, mark, out=kept)
    else:
        winners[:, layer.classes] = np.maximum(winners[:, layer.classes], mark)
    _merge_maximum(maxima, layer, similarities)
