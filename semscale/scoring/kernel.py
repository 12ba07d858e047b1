"""Fused ladder kernel: scores all steps of a ladder in one pass over blocks of images, in bounded memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from semscale.scoring.aggregations import AGGREGATIONS, LOGIT_SCALE, make_aggregation
from semscale.scoring.decisions import Decider, PredictionArrays
from semscale.scoring.plan import Float32, Int32, LadderPlan, plan_ladder
from semscale.scoring.tiles import BlockScorer

S = TypeVar("S")
T = TypeVar("T", bound=np.generic)

BLOCK = 2048
"""Default number of images per block."""

MAX_PRODUCT_BYTES = 128 << 20
"""Memory limit of the matrix products of all threads together."""


@dataclass(frozen=True)
class LadderInputs:
    """Embeddings of images and of a ladder's texts.

    Attributes:
        images: float32[n, d], unit rows.
        texts: float32[m, d], unit rows, in the order of :class:`semscale.categories.ladder.FlatLadder`.
        class_index: int32[m], the class of each text; every class has a text in the first step.
        step_ends: int64[S]; step k has `texts[:step_ends[k]]`.
        true_class: int32[n].
    """

    images: Float32
    texts: Float32
    class_index: Int32
    step_ends: NDArray[np.int64]
    true_class: Int32

    def plan(self) -> LadderPlan:
        """Validate all arrays and return the plan of the ladder.

        Raises:
            ValueError: wrong shapes, types or ranges, or a text embedding that is not finite.
        """
        plan = plan_ladder(self.class_index, self.step_ends)
        for name, rows in (("images", self.images), ("texts", self.texts)):
            if rows.ndim != 2 or rows.dtype != np.float32:
                raise ValueError(f"expected {name} to be float32[rows, d], got {rows.dtype}{list(rows.shape)}")
        if self.images.shape[1] != self.texts.shape[1]:
            raise ValueError(f"expected one embedding size, got {self.images.shape[1]} and {self.texts.shape[1]}")
        if len(self.texts) != len(plan.class_index):
            raise ValueError(f"expected {len(plan.class_index)} texts, but got {len(self.texts)}")
        true = self.true_class
        if true.shape != (len(self.images),):
            raise ValueError(f"expected a true class for each of {len(self.images)} images, got {true.shape}")
        if len(true) and not 0 <= true.min() <= true.max() < plan.n_classes:
            raise ValueError(f"expected true classes from 0 to {plan.n_classes - 1}")
        check_finite(self.texts, "texts")
        return plan

    def block(self, first: int, last: int) -> tuple[Float32, Int32]:
        """Return embeddings and true classes of images `first` to `last - 1`.

        Raises:
            ValueError: an embedding is not finite.
        """
        images = np.ascontiguousarray(self.images[first:last])
        check_finite(images, f"images {first} to {last - 1}")
        return images, self.true_class[first:last]


@dataclass(frozen=True)
class ScoreOptions:
    """Options of scoring: outputs besides predictions, ranks and margins, and parameters.

    Attributes:
        confidence: whether to compute confidences.
        ceiling: whether to compute the ceiling (oracle accuracy), which is the same for every aggregation.
        logit_scale: the model's factor before the softmax, for `confidence` and for the aggregation `logsumexp`.
        block: images per block; it changes margins and confidences by no more than the rounding of float32.

    Raises:
        ValueError: the logit scale is not positive.
    """

    confidence: bool = False
    ceiling: bool = False
    logit_scale: float = LOGIT_SCALE
    block: int = BLOCK

    def __post_init__(self) -> None:
        """Validate the logit scale."""
        if not 0 < self.logit_scale < np.inf:
            raise ValueError(f"expected a positive logit scale, but got {self.logit_scale}")


@dataclass(frozen=True)
class LadderScores:
    """Scores of n images at the S steps of a ladder.

    Attributes:
        predicted_category: int32[n, S], index of a text; for aggregations other than `max` the category of
            the predicted class that is nearest to the image.
        predicted_class: int32[n, S].
        true_rank: int32[n, S], the number of classes before the true one. The predicted class is first, so 0 means
            correct; of equal scores the earlier class is first.
        margin: float32[n, S], the score of the true class minus the best score of another class, in cosine.
        confidence: float32[n, S], the probability of the predicted class in the softmax over `logit_scale` times the
            class scores; shape [n, 0] unless requested, like the ceiling.
        ceiling: bool[n, S], the oracle: whether some choice among the step's categories would label the image correctly
            under `max`; its mean is the oracle accuracy.
    """

    predicted_category: Int32
    predicted_class: Int32
    true_rank: Int32
    margin: Float32
    confidence: Float32 = field(default_factory=lambda: np.empty((0, 0), dtype=np.float32))
    ceiling: NDArray[np.bool_] = field(default_factory=lambda: np.empty((0, 0), dtype=np.bool_))


def score_ladder(inputs: LadderInputs, aggregation: str = "max", options: ScoreOptions | None = None) -> LadderScores:
    """Score every step of a ladder for all images by one aggregation, see :func:`score_aggregations`.

    >>> images = np.eye(2, dtype=np.float32)
    >>> texts = np.array([[0.8, 0.6], [0.6, 0.8], [0.0, 1.0], [0.8, 0.6]], dtype=np.float32)
    >>> owners, ends, true = np.array([0, 1, 0, 1], np.int32), np.array([2, 4]), np.array([0, 1], np.int32)
    >>> scores = score_ladder(LadderInputs(images, texts, owners, ends, true))
    >>> scores.predicted_class.tolist(), scores.predicted_category.tolist()
    ([[0, 0], [1, 0]], [[0, 0], [1, 2]])
    """
    return score_aggregations(inputs, (aggregation,), options)[aggregation]


def score_aggregations(
    inputs: LadderInputs,
    aggregations: Sequence[str] = AGGREGATIONS,
    options: ScoreOptions | None = None,
    *,
    start: int = 0,
    stop: int | None = None,
) -> dict[str, LadderScores]:
    """Score every step of a ladder by several aggregations; step k multiplies only the texts that step k adds.

    Predictions, ranks and the ceiling are those of the float64 scores (:mod:`semscale.scoring.decisions`), independent
    of machine, size of blocks, number of threads (:func:`thread_count`) and other aggregations.

    Memory besides inputs and outputs is about `4 * block * (texts of the widest step + a * classes)` bytes and a few
    megabytes per thread; there are no more threads than fit into 128 MB of products. `a` is 1 for `max`,
    `mean-embedding` and `mean-similarity`, 2 for `logsumexp`, k for `top-k-mean`, 5 for all of `AGGREGATIONS`
    together, and 1 more for the ceiling.

    Args:
        inputs: embeddings of images and texts.
        aggregations: some of `AGGREGATIONS`.
        options: outputs and parameters.
        start, stop: score only these images, a range of :func:`block_ranges`: `start` is a multiple of the block, and
            so is `stop` unless it is the number of images. Joined ranges are bitwise equal to the whole.

    Raises:
        ConfigError: unknown aggregation.
        ValueError: wrong shapes, types or ranges, a range that cuts a block, or an embedding that is not finite.

    >>> images = np.eye(2, dtype=np.float32)
    >>> texts = np.array([[0.8, 0.6], [0.6, 0.8], [0.0, 1.0], [0.8, 0.6]], dtype=np.float32)
    >>> owners, ends, true = np.array([0, 1, 0, 1], np.int32), np.array([2, 4]), np.array([0, 1], np.int32)
    >>> scores = score_aggregations(LadderInputs(images, texts, owners, ends, true), ("max", "mean-similarity"))
    >>> {name: each.predicted_class[:, -1].tolist() for name, each in scores.items()}
    {'max': [0, 0], 'mean-similarity': [1, 0]}
    """
    options = options or ScoreOptions()
    stop = len(inputs.images) if stop is None else stop
    check_range(start, stop, len(inputs.images), options.block)
    plan = inputs.plan()
    by_name = {name: make_aggregation(name, plan, inputs.texts, options.logit_scale) for name in aggregations}
    n, n_steps, block_rows = stop - start, len(plan.steps), min(options.block, stop - start)
    arrays = {name: PredictionArrays.empty(n, n_steps, options.confidence) for name in by_name}
    oracle = np.empty((n, n_steps if options.ceiling else 0), dtype=np.bool_)
    decider = Decider(plan, inputs.texts, inputs.images[start:stop])

    def score(scorer: BlockScorer, first: int) -> None:
        last = min(first + options.block, stop)
        rows = slice(first - start, last - start)
        outs = {name: out.view(rows) for name, out in arrays.items()}
        scorer.score(*inputs.block(first, last), outs, oracle[rows])

    run_blocks(
        range(start, stop, options.block),
        lambda: BlockScorer(decider, by_name, block_rows, options.logit_scale, options.ceiling),
        score,
        max_threads=max(1, MAX_PRODUCT_BYTES // (4 * block_rows * plan.widest + 1)),
    )
    return ladder_scores(inputs.images[start:stop], arrays, oracle, decider)


def ladder_scores(
    images: Float32, arrays: Mapping[str, PredictionArrays], oracle: NDArray[np.bool_], decider: Decider
) -> dict[str, LadderScores]:
    """Return the scores of each aggregation, with predicted categories, and a column for every step of the ladder."""
    if not arrays:
        return {}
    plan = decider.plan
    predicted = np.concatenate([out.predicted_class for out in arrays.values()], axis=1)
    categories = np.split(decider.nearest_categories(images, predicted), len(arrays), axis=1)

    def of_steps(column: NDArray[T]) -> NDArray[T]:
        return column[:, plan.step_of] if 0 < column.shape[1] < len(plan.step_of) else column

    return {
        name: LadderScores(
            of_steps(category),
            of_steps(out.predicted_class),
            of_steps(out.true_rank),
            of_steps(out.margin),
            of_steps(out.confidence),
            of_steps(oracle),
        )
        for (name, out), category in zip(arrays.items(), categories, strict=True)
    }


def block_ranges(n: int, parts: int, block: int = BLOCK) -> list[tuple[int, int]]:
    """Return at most `parts` ranges of whole blocks of n images, as equal as possible.

    >>> block_ranges(10, parts=2, block=4)
    [(0, 8), (8, 10)]
    """
    n_blocks = -(-n // block)
    parts = max(1, min(parts, n_blocks))
    edges = [-(-n_blocks * part // parts) for part in range(parts + 1)]
    return [(a * block, min(b * block, n)) for a, b in pairwise(edges) if a < b]


def join_scores(pieces: Sequence[LadderScores]) -> LadderScores:
    """Concatenate the scores of consecutive ranges of images."""
    return LadderScores(*(np.concatenate([getattr(piece, f.name) for piece in pieces]) for f in fields(LadderScores)))


def check_range(start: int, stop: int, n: int, block: int) -> None:
    """Raise ValueError for a range of images that does not consist of whole blocks."""
    if block < 1 or not 0 <= start <= stop <= n or start % block or (stop % block and stop < n):
        raise ValueError(f"expected a range of whole blocks of {block} in {n} images, but got {start}:{stop}")


def check_finite(rows: Float32, name: str) -> None:
    """Raise ValueError for embeddings that are not finite."""
    # a sum is finite only if every term is, and costs a thousandth of the product
    if not np.isfinite(rows.sum()):
        raise ValueError(f"expected finite embeddings, but got nan or infinity in {name}")


def thread_count() -> int:
    """Return the number of threads for blocks: that of the matrix product.

    `OPENBLAS_NUM_THREADS`, `MKL_NUM_THREADS` and `OMP_NUM_THREADS` limit the product, so they limit the blocks too (Ray
    sets the last to the CPUs of a task); the default is the number of CPUs of this process.
    """
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        if (value := os.environ.get(name, "")).isdecimal() and int(value):
            return int(value)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_blocks(
    firsts: range, make_workspace: Callable[[], S], process: Callable[[S, int], None], max_threads: int
) -> None:
    """Process blocks in threads, at most :func:`thread_count`, `max_threads`, and one per block.

    The threads of a BLAS library synchronise after every product and occupy the cores while they wait; with a block per
    thread none waits.

    Args:
        firsts: the first image of every block.
        make_workspace: makes the workspace of a thread.
        process: called with the thread's workspace and the first image of a block.
        max_threads: the number of workspaces that fit into memory.
    """
    threads = min(thread_count(), len(firsts), max_threads)
    if threads <= 1:
        workspace = make_workspace()
        for first in firsts:
            process(workspace, first)
        return
    local = threading.local()

    def process_block(first: int) -> None:
        if not hasattr(local, "workspace"):
            local.workspace = make_workspace()
        process(local.workspace, first)

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(process_block, firsts):
            pass
