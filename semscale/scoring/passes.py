"""From the similarities of a step to answers: the nearest text, the best class, the ceiling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from semscale.scoring.aggregations import Rule
from semscale.scoring.confidence import confidence_of
from semscale.scoring.plan import Float32, Int32, LadderPlan, Step
from semscale.scoring.ranking import rank_true_class
from semscale.scoring.running import Needs, Running, Scratch


@dataclass(frozen=True, slots=True)
class Answers:
    """Where a pass writes its results: arrays [rows, S], or [rows, 0] for what is not wanted."""

    category: Int32
    true_rank: Int32
    margin: Float32
    confidence: Float32

    def part(self, rows: slice) -> Answers:
        """Return the rows of some images."""
        return Answers(self.category[rows], self.true_rank[rows], self.margin[rows], self.confidence[rows])


def empty_answers(rows: int, n_steps: int, ranks: bool, confidence: bool) -> Answers:
    """Return arrays for the answers that are wanted, not yet filled."""
    return Answers(
        category=np.empty((rows, n_steps), dtype=np.int32),
        true_rank=np.empty((rows, n_steps if ranks else 0), dtype=np.int32),
        margin=np.empty((rows, n_steps if ranks else 0), dtype=np.float32),
        confidence=np.empty((rows, n_steps if confidence else 0), dtype=np.float32),
    )


class Pass(Protocol):
    """Answers the steps of one strip of images after the other."""

    needs: Needs
    """What the running state must hold."""

    def begin(self, true_class: Int32) -> None:
        """Start with the images of these true classes, int32[rows]."""

    def answer(self, k: int, similarities: Float32 | None, running: Running, out: Answers, scratch: Scratch) -> None:
        """Fill column k of `out`; the state holds step k already, which adds no text where there are no similarities.

        A pass may overwrite the similarities only if it is the last.
        """


class MaxPass:
    """The study's rule: the nearest category decides, so a class scores what its nearest category scores.

    The prediction is the nearest of all texts, found by one argmax over the new texts of each step. For the
    margin the true class is kept apart: the argmax then runs over the other classes' texts, and the similarities
    are overwritten. Only ranks and confidences need a score for every class. Of equal similarities the earlier
    text wins.
    """

    def __init__(self, plan: LadderPlan, ranks: bool, confidence: bool, logit_scale: float) -> None:
        self._plan = plan
        self._ranks = ranks
        self._confidence = confidence
        self._scale = logit_scale
        self.needs = Needs(maxima=ranks or confidence)

    def begin(self, true_class: Int32) -> None:
        """Forget the strip before."""
        self._true_class = true_class
        self._other, self._true = _Nearest(len(true_class)), _Nearest(len(true_class))

    def answer(self, k: int, similarities: Float32 | None, running: Running, out: Answers, scratch: Scratch) -> None:
        """Answer step k."""
        true_class, other, true = self._true_class, self._other, self._true
        if similarities is not None:
            self._take(self._plan.steps[k], similarities)
        scores = running.maxima[: len(true_class)]
        if self._confidence:
            out.confidence[:, k] = confidence_of(scores, self._scale, scratch.floats(1, scores.shape))
        if not self._ranks:
            out.category[:, k] = other.text
            return
        tied = true.value == other.value
        right = (true.value > other.value) | (tied & (true.text < other.text))
        out.category[:, k] = np.where(right, true.text, other.text)
        out.margin[:, k] = true.value - other.value
        rank = rank_true_class(scores, true_class, true.value)
        # A tie for the first place goes to the earlier text, which may be of a later class.
        overtaken = tied & (self._plan.class_index[other.text] > true_class)
        out.true_rank[:, k] = np.where(right, 0, rank + overtaken)

    def _take(self, step: Step, similarities: Float32) -> None:
        if self._ranks:
            for layer in step.layers:
                self._true.take(*_set_apart(similarities, layer.column_of[self._true_class]), step.start)
        columns = similarities.argmax(axis=1)
        self._other.take(columns, similarities[np.arange(len(columns)), columns], step.start)


class ClassScorePass:
    """Any aggregation that has a score for every class; of equal scores the earlier class wins.

    The category of a prediction is the nearest one of the predicted class, kept as the number of the layer
    that holds the running maximum of each class.
    """

    def __init__(self, plan: LadderPlan, rule: Rule, ranks: bool, confidence: bool, logit_scale: float) -> None:
        self._layer_texts = plan.layer_texts
        self._n_classes = plan.n_classes
        self._rule = rule
        self._ranks = ranks
        self._confidence = confidence
        self._scale = logit_scale
        self.needs = Needs.of([rule.needs, Needs(winners=True)])

    def begin(self, true_class: Int32) -> None:
        """Take the true classes; everything else is in the running state."""
        self._true_class = true_class

    def answer(self, k: int, similarities: Float32 | None, running: Running, out: Answers, scratch: Scratch) -> None:
        """Answer step k."""
        true_class = self._true_class
        rows = np.arange(len(true_class))
        scores = scratch.floats(0, (len(true_class), self._n_classes))
        self._rule.class_scores(running, k, scores)
        if self._confidence:
            out.confidence[:, k] = confidence_of(scores, self._scale, scratch.floats(1, scores.shape))
        if self._ranks:
            true_score = scores[rows, true_class]
            out.true_rank[:, k] = rank_true_class(scores, true_class, true_score)
            scores[rows, true_class] = -np.inf
            predicted = scores.argmax(axis=1)
            out.margin[:, k] = true_score - scores[rows, predicted]
            predicted[out.true_rank[:, k] == 0] = true_class[out.true_rank[:, k] == 0]
        else:
            predicted = scores.argmax(axis=1)
        out.category[:, k] = self._layer_texts[running.winners[rows, predicted], predicted]


class _Nearest:
    """The nearest text so far of each image of a strip."""

    def __init__(self, rows: int) -> None:
        self.value = np.full(rows, -np.inf, dtype=np.float32)
        self.text = np.full(rows, -1, dtype=np.int32)

    def take(self, columns: NDArray[np.integer], values: Float32, start: int) -> None:
        """Take the texts `start + columns` where they are nearer; equal ones are later texts and lose."""
        nearer = values > self.value
        self.value[nearer] = values[nearer]
        self.text[nearer] = columns[nearer] + start


def _set_apart(similarities: Float32, columns: Int32) -> tuple[Int32, Float32]:
    """Take one similarity out of each row (none where the column is -1), leaving -inf in its place."""
    rows = np.arange(len(columns))
    values = similarities[rows, columns]
    values[columns < 0] = -np.inf
    there = columns >= 0
    similarities[rows[there], columns[there]] = -np.inf
    return columns, values
