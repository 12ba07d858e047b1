"""The fused ladder kernel: all steps of a ladder in one pass over blocks of images, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from semscale.scoring.aggregations import CLASS_SCORES, LOGIT_SCALE, rule_of
from semscale.scoring.block import BlockScorer
from semscale.scoring.checks import check_arrays, check_finite, check_range
from semscale.scoring.passes import ClassScorePass, MaxPass, Pass, empty_answers
from semscale.scoring.plan import Float32, Int32, plan_ladder
from semscale.scoring.threads import share_blocks

AGGREGATIONS = ("max", *CLASS_SCORES)
"""The names of the aggregations; `top-3-mean` stands for any `top-k-mean`."""

BLOCK = 2048
"""Images per block unless asked otherwise."""

# bytes that the products of all threads may take together
_MOST_PRODUCTS = 128 << 20


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
        ceiling: bool[n, S], whether some choice among the offered categories would label the image right under `max`,
            see :func:`semscale.scoring.ceiling.within_reach`; shape [n, 0] unless asked for.
    """

    predicted_category: Int32
    predicted_class: Int32
    true_rank: Int32
    margin: Float32
    confidence: Float32 = field(default_factory=lambda: np.empty((0, 0), dtype=np.float32))
    ceiling: NDArray[np.bool_] = field(default_factory=lambda: np.empty((0, 0), dtype=np.bool_))


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

    Args:
        images, texts, class_index, step_ends, true_class, block, ranks, confidence, logit_scale: as for
            :func:`score_aggregations`.
        aggregation: how the categories of a class become one class score, one of `AGGREGATIONS`.

    Raises:
        SemscaleError, ValueError: as :func:`score_aggregations`.

    >>> images = np.eye(2, dtype=np.float32)
    >>> texts = np.array([[0.8, 0.6], [0.6, 0.8], [0.0, 1.0], [0.8, 0.6]], dtype=np.float32)
    >>> owners, ends, true = np.array([0, 1, 0, 1], np.int32), np.array([2, 4]), np.array([0, 1], np.int32)
    >>> scores = score_ladder(images, texts, owners, ends, true)
    >>> scores.predicted_class.tolist(), scores.predicted_category.tolist()
    ([[0, 0], [1, 0]], [[0, 0], [1, 2]])
    """
    return score_aggregations(
        images,
        texts,
        class_index,
        step_ends,
        true_class,
        (aggregation,),
        block=block,
        ranks=ranks,
        confidence=confidence,
        logit_scale=logit_scale,
    )[aggregation]


def score_aggregations(
    images: Float32,
    texts: Float32,
    class_index: Int32,
    step_ends: NDArray[np.int64],
    true_class: Int32,
    aggregations: Sequence[str] = AGGREGATIONS,
    *,
    start: int = 0,
    stop: int | None = None,
    block: int = BLOCK,
    ranks: bool = True,
    confidence: bool = False,
    ceiling: bool = False,
    logit_scale: float = LOGIT_SCALE,
) -> dict[str, LadderScores]:
    """Score every step of a ladder by several aggregations at once: one product serves them all.

    Every aggregation gives the same bits alone and among others, and whatever the number of threads, which is that of
    :func:`semscale.scoring.threads.thread_count`; each thread works on a block of its own.

    Memory beyond inputs and outputs is about `4 * block * (texts of the widest step + a * classes)` bytes and a few
    megabytes for each thread; there are no more threads than fit into 128 MB of products. `a` is 0 for `max`
    without ranks and confidences and 1 with them, 2.25 for each of `mean-embedding`, `mean-similarity` and
    `logsumexp`, k + 0.25 for `top-k-mean`, 5.25 for all of `AGGREGATIONS` together, and 2 for the ceiling alone, 1
    where `a` is above 0 already.

    Args:
        images: float32[n, d], unit rows.
        texts: float32[m, d], unit rows, in the order of :class:`semscale.categories.ladder.FlatLadder`.
        class_index: int32[m], the class of each text; every class has a text in the first step.
        step_ends: int64[S]; step k offers `texts[:step_ends[k]]`.
        true_class: int32[n].
        aggregations: how the categories of a class become one class score, some of `AGGREGATIONS`.
        start, stop: score only these images, a range of :func:`block_ranges`: `start` is a multiple of `block`, and
            so is `stop` unless it is the number of images. The pieces joined equal the whole bit for bit.
        block: images per block; part of the definition of the result, because a matrix product of another
            shape may round the last bit differently.
        ranks: False skips `true_rank` and `margin`.
        confidence: True adds `confidence`.
        ceiling: True adds `ceiling`, the same for every aggregation.
        logit_scale: the model's factor before the softmax, for `confidence` and for the aggregation `logsumexp`.

    Raises:
        SemscaleError: for an unknown aggregation.
        ValueError: when shapes, types or ranges do not fit, the range cuts through a block, the logit scale is not
            positive, or an embedding is not finite.

    >>> images = np.eye(2, dtype=np.float32)
    >>> texts = np.array([[0.8, 0.6], [0.6, 0.8], [0.0, 1.0], [0.8, 0.6]], dtype=np.float32)
    >>> owners, ends, true = np.array([0, 1, 0, 1], np.int32), np.array([2, 4]), np.array([0, 1], np.int32)
    >>> scores = score_aggregations(images, texts, owners, ends, true, ("max", "mean-similarity"))
    >>> {name: found.predicted_class[:, -1].tolist() for name, found in scores.items()}
    {'max': [0, 0], 'mean-similarity': [1, 0]}
    """
    stop = len(images) if stop is None else stop
    check_range(start, stop, len(images), block)
    plan = plan_ladder(class_index, step_ends)
    check_arrays(images, texts, true_class, plan)
    check_finite(texts, "texts")
    if not 0 < logit_scale < np.inf:
        raise ValueError(f"expected a positive logit scale, but got {logit_scale}")
    n, n_steps, rows = stop - start, len(plan.steps), min(block, stop - start)
    answers = {name: empty_answers(n, n_steps, ranks, confidence) for name in aggregations}
    reach = np.empty((n, n_steps if ceiling else 0), dtype=np.bool_)
    # `max` sets similarities apart in place, so it comes last
    outs = dict(sorted(answers.items(), key=lambda item: item[0] == "max"))
    rules = {name: rule_of(name, plan, texts, logit_scale) for name in outs if name != "max"}

    def make_passes() -> list[Pass]:
        return [
            ClassScorePass(plan, rules[name], ranks, confidence, logit_scale)
            if name in rules
            else MaxPass(plan, ranks, confidence, logit_scale)
            for name in outs
        ]

    def score(scorer: BlockScorer, first: int) -> None:
        here = slice(first, min(first + block, stop))
        check_finite(images[here], f"images {here.start} to {here.stop - 1}")
        written = slice(here.start - start, here.stop - start)
        parts = [out.part(written) for out in outs.values()]
        scorer.run(np.ascontiguousarray(images[here]), true_class[here], parts, reach[written])

    share_blocks(
        range(start, stop, block),
        lambda: BlockScorer(plan, texts, make_passes, ceiling, rows, logit_scale),
        score,
        most=max(1, _MOST_PRODUCTS // (4 * rows * plan.widest + 1)),
    )
    return {
        name: LadderScores(
            out.category, plan.class_index[out.category], out.true_rank, out.margin, out.confidence, reach
        )
        for name, out in answers.items()
    }


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
        np.concatenate([piece.ceiling for piece in pieces]),
    )
