"""The fused ladder kernel: all steps of a ladder in one pass over blocks of images, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from semscale.scoring.aggregations import CLASS_SCORES, LOGIT_SCALE, class_scores_of
from semscale.scoring.confidence import Confidence
from semscale.scoring.passes import Answers, ClassScorePass, MaxPass, Pass
from semscale.scoring.plan import Float32, Int32, LadderPlan, plan_ladder

AGGREGATIONS = ("max", *CLASS_SCORES)
"""The names of the aggregations; `top-3-mean` stands for any `top-k-mean`."""

BLOCK = 2048
"""Images per block unless asked otherwise."""


@dataclass(frozen=True)
class LadderScores:
    """What the kernel finds for n images at the S steps of a ladder.

    Attributes:
        predicted_category: int32[n, S], index of a text; for aggregations other than `max` the category of
            the predicted class that is nearest to the image.
        predicted_class: int32[n, S].
        true_rank: int32[n, S], how many classes come before the true one. The predicted class is first, so 0
            means right; of equal scores the earlier class comes first.
        margin: float32[n, S], the score of the true class less the best score of another class, in cosine.
            `true_rank` and `margin` have shape [n, 0] when they were not asked for.
        confidence: float32[n, S], the probability of the predicted class in the softmax over `logit_scale` times the
            class scores; shape [n, 0] unless asked for.
    """

    predicted_category: Int32
    predicted_class: Int32
    true_rank: Int32
    margin: Float32
    confidence: Float32 = field(default_factory=lambda: np.empty((0, 0), dtype=np.float32))


def score_ladder(
    images: Float32,
    texts: Float32,
    class_index: Int32,
    step_ends: NDArray[np.int64],
    true_class: Int32,
    aggregation: str = "max",
    block: int = BLOCK,
    ranks: bool = True,
    confidence: bool = False,
    logit_scale: float = LOGIT_SCALE,
) -> LadderScores:
    """Score every step of a ladder for all images; step k multiplies only the texts that step k adds.

    Memory beyond inputs and outputs is about `block * (texts of the widest step + 2 * classes) * 4` bytes for
    `max`, up to three times the second part for other aggregations (k more for `top-k-mean`), and `classes` more for
    `confidence`.

    Args:
        images: float32[n, d], unit rows.
        texts: float32[m, d], unit rows, in the order of :class:`semscale.categories.ladder.FlatLadder`.
        class_index: int32[m], the class of each text; every class has a text in the first step.
        step_ends: int64[S]; step k offers `texts[:step_ends[k]]`.
        true_class: int32[n].
        aggregation: how the categories of a class become one class score, one of `AGGREGATIONS`.
        block: images per block; part of the definition of the result, because a matrix product of another
            shape may round the last bit differently.
        ranks: False skips `true_rank` and `margin`.
        confidence: True adds `confidence`.
        logit_scale: the model's factor before the softmax, for `confidence` and for the aggregation `logsumexp`.

    Raises:
        SemscaleError: for an unknown aggregation.
        ValueError: when shapes, types or ranges do not fit, the logit scale is not positive, or an embedding is
            not finite.

    >>> images = np.eye(2, dtype=np.float32)
    >>> texts = np.array([[0.8, 0.6], [0.6, 0.8], [0.0, 1.0], [0.8, 0.6]], dtype=np.float32)
    >>> owners, ends, true = np.array([0, 1, 0, 1], np.int32), np.array([2, 4]), np.array([0, 1], np.int32)
    >>> scores = score_ladder(images, texts, owners, ends, true)
    >>> scores.predicted_class.tolist(), scores.predicted_category.tolist()
    ([[0, 0], [1, 0]], [[0, 0], [1, 2]])
    """
    n = len(images)
    return score_blocks(
        images,
        texts,
        class_index,
        step_ends,
        true_class,
        0,
        n,
        aggregation=aggregation,
        block=block,
        ranks=ranks,
        confidence=confidence,
        logit_scale=logit_scale,
    )


def score_blocks(
    images: Float32,
    texts: Float32,
    class_index: Int32,
    step_ends: NDArray[np.int64],
    true_class: Int32,
    start: int,
    stop: int,
    aggregation: str = "max",
    block: int = BLOCK,
    ranks: bool = True,
    confidence: bool = False,
    logit_scale: float = LOGIT_SCALE,
) -> LadderScores:
    """Score the images `start:stop`, whole blocks; the pieces joined equal :func:`score_ladder` bit for bit.

    Args:
        start, stop: a range of :func:`block_ranges`: `start` is a multiple of `block`, and so is `stop`
            unless it is the number of images.
        images, texts, class_index, step_ends, true_class, aggregation, block, ranks, confidence, logit_scale: as
            for :func:`score_ladder`, for all images.

    Raises:
        SemscaleError: for an unknown aggregation.
        ValueError: as :func:`score_ladder`, and when the range cuts through a block.
    """
    _check_range(start, stop, len(images), block)
    plan = plan_ladder(class_index, step_ends)
    _check(images, texts, true_class, plan)
    _check_finite(texts, "texts")
    n, n_steps = stop - start, len(plan.steps)
    category = np.empty((n, n_steps), dtype=np.int32)
    true_rank = np.empty((n, n_steps if ranks else 0), dtype=np.int32)
    margin = np.empty(true_rank.shape, dtype=np.float32)
    sure = np.empty((n, n_steps if confidence else 0), dtype=np.float32)
    worker = _make_pass(aggregation, plan, texts, min(block, n), ranks, confidence, logit_scale)
    for first in range(start, stop, block):
        rows = slice(first, min(first + block, stop))
        here = slice(rows.start - start, rows.stop - start)
        answers = Answers(category[here], true_rank[here], margin[here], sure[here])
        _check_finite(images[rows], f"images {first} to {rows.stop - 1}")
        worker.run(np.ascontiguousarray(images[rows]), true_class[rows], answers)
    return LadderScores(category, plan.class_index[category], true_rank, margin, sure)


def block_ranges(n: int, parts: int, block: int = BLOCK) -> list[tuple[int, int]]:
    """Split n images into at most `parts` ranges of whole blocks, as even as blocks allow.

    >>> block_ranges(10, parts=2, block=4)
    [(0, 8), (8, 10)]
    """
    n_blocks = -(-n // block)
    parts = max(1, min(parts, n_blocks))
    edges = [-(-n_blocks * part // parts) for part in range(parts + 1)]
    return [(a * block, min(b * block, n)) for a, b in pairwise(edges) if a < b]


def join_scores(pieces: Sequence[LadderScores]) -> LadderScores:
    """Join the scores of consecutive ranges of images."""
    return LadderScores(
        np.concatenate([piece.predicted_category for piece in pieces]),
        np.concatenate([piece.predicted_class for piece in pieces]),
        np.concatenate([piece.true_rank for piece in pieces]),
        np.concatenate([piece.margin for piece in pieces]),
        np.concatenate([piece.confidence for piece in pieces]),
    )


def _make_pass(
    aggregation: str, plan: LadderPlan, texts: Float32, rows: int, ranks: bool, confidence: bool, logit_scale: float
) -> Pass:
    if not 0 < logit_scale < np.inf:
        raise ValueError(f"expected a positive logit scale, but got {logit_scale}")
    sure = Confidence(rows, plan.n_classes, logit_scale) if confidence else None
    if aggregation == "max":
        return MaxPass(plan, texts, rows, ranks, sure)
    return ClassScorePass(plan, texts, rows, ranks, class_scores_of(aggregation, logit_scale), sure)


def _check_range(start: int, stop: int, n: int, block: int) -> None:
    if block < 1 or not 0 <= start <= stop <= n or start % block or (stop % block and stop < n):
        raise ValueError(f"expected a range of whole blocks of {block} in {n} images, but got {start}:{stop}")


def _check(images: Float32, texts: Float32, true_class: Int32, plan: LadderPlan) -> None:
    for name, rows in (("images", images), ("texts", texts)):
        if rows.ndim != 2 or rows.dtype != np.float32:
            raise ValueError(f"expected {name} to be float32[rows, d], got {rows.dtype}{list(rows.shape)}")
    if images.shape[1] != texts.shape[1]:
        raise ValueError(f"expected one embedding size, but got {images.shape[1]} and {texts.shape[1]}")
    if len(texts) != len(plan.class_index):
        raise ValueError(f"expected {len(plan.class_index)} texts, but got {len(texts)}")
    if true_class.shape != (len(images),):
        raise ValueError(f"expected a true class for each of {len(images)} images, got {true_class.shape}")
    if len(true_class) and not 0 <= true_class.min() <= true_class.max() < plan.n_classes:
        raise ValueError(f"expected true classes from 0 to {plan.n_classes - 1}")


def _check_finite(rows: Float32, name: str) -> None:
    # A sum is finite only if every term is, and costs a thousandth of the product.
    if not np.isfinite(rows.sum()):
        raise ValueError(f"expected finite embeddings, but got nan or infinity in {name}")
