"""Stage 2: predictions of every step of every ladder, as Ray tasks over whole blocks of images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import ray

from semscale.analysis.oracle import oracle_bounds, oracle_correct
from semscale.categories.ladder import FlatLadder, Ladder
from semscale.scoring.kernel import LadderScores, block_ranges, join_scores, score_blocks
from semscale.sweep.cluster import cluster_cpus
from semscale.sweep.rundir import LADDER_KEY

if TYPE_CHECKING:
    from semscale.sweep.encode import EncodedArm  # brings clip-client along, which trial workers do not need

Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True)
class ScoredLadder:
    """The predictions of one dataset x model x strategy x order at every step, and what a trial needs beside them.

    Attributes:
        dataset, model, strategy, order, aggregation: which curve it belongs to.
        ladder: the category sets.
        flat: the ladder's texts as the kernel takes them.
        files: names of the n images.
        true_class: int32[n], index into the ladder's classes.
        scores: the kernel's answer, [n, S].
        ceiling: bool[n, S], what some choice among the offered categories could label right, see
            :func:`semscale.analysis.oracle.oracle_correct`.
        images: Ray reference of the image embeddings, float32 [n, dimension]; one for all ladders of a dataset.
        texts: Ray reference of the text embeddings, float32 [m, dimension].
    """

    dataset: str
    model: str
    strategy: str
    order: int
    aggregation: str
    ladder: Ladder
    flat: FlatLadder
    files: list[str]
    true_class: Int32
    scores: LadderScores
    ceiling: npt.NDArray[np.bool_]
    images: Any
    texts: Any

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Return dataset, model, strategy and order."""
        return self.dataset, self.model, self.strategy, self.order

    @property
    def curve(self) -> tuple[str, str, str]:
        """Return the curve that it belongs to: dataset, model and strategy."""
        return self.dataset, self.model, self.strategy

    @property
    def columns(self) -> dict[str, Any]:
        """Return the columns that identify it in every table."""
        return dict(zip(LADDER_KEY, self.key, strict=True))

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Return bool[n, S]: which images are labelled right at which step."""
        return np.asarray(self.scores.true_rank == 0)

    def digest(self) -> str:
        """Return 12 hex digits that change when any prediction, true class or category set changes."""
        sha = hashlib.sha256(self.ladder.digest.encode())
        sha.update("\n".join([self.aggregation, self.model, *self.files]).encode())
        # margins are left out: they may differ in the last bit between machines, and nothing else would
        for array in (self.true_class, self.scores.predicted_category, self.scores.true_rank):
            sha.update(np.ascontiguousarray(array).tobytes())
        return sha.hexdigest()[:12]

    def predictions(self) -> pd.DataFrame:
        """Return the predictions file: ``file``, ``true_class``, and per step the predicted category text."""
        texts = np.array(self.flat.texts, dtype=object)
        columns: dict[str, Any] = {
            "file": self.files,
            "true_class": [self.ladder.classes[index] for index in self.true_class],
        }
        for k, step in enumerate(self.ladder.steps):
            columns[str(step.n_categories)] = texts[self.scores.predicted_category[:, k]]
        return pd.DataFrame(columns)


def score_arm(encoded: EncodedArm, model: str, aggregation: str) -> list[ScoredLadder]:
    """Score all ladders of a dataset; the image embeddings go into the object store once."""
    logit_scale = encoded.encoder.identity.logit_scale
    dataset = encoded.arm.dataset
    samples = dataset.samples.pick(encoded.images.positions)
    files, true_class = samples.files(), samples.class_index
    images = ray.put(encoded.image_embeddings())
    pending = []
    for ladder in encoded.arm.ladders:
        flat = ladder.flatten()
        texts = ray.put(encoded.text_embeddings(flat.texts))
        ranges = _shares(len(samples))
        tasks = [
            _score_range.remote(
                images,
                texts,
                flat.class_index,
                flat.step_ends,
                true_class,
                start,
                stop,
                aggregation,
                logit_scale,
            )
            for start, stop in ranges
        ]
        pending.append((ladder, flat, texts, tasks))
    return [
        ScoredLadder(
            dataset=dataset.name,
            model=model,
            strategy=ladder.strategy,
            order=ladder.order,
            aggregation=aggregation,
            ladder=ladder,
            flat=flat,
            files=files,
            true_class=true_class,
            scores=join_scores([scores for scores, _ in parts]),
            ceiling=np.concatenate([ceiling for _, ceiling in parts]),
            images=images,
            texts=texts,
        )
        for ladder, flat, texts, tasks in pending
        for parts in [ray.get(tasks)]
    ]


@ray.remote(max_retries=3)
def _score_range(
    images: npt.NDArray[np.float32],
    texts: npt.NDArray[np.float32],
    class_index: Int32,
    step_ends: npt.NDArray[np.int64],
    true_class: Int32,
    start: int,
    stop: int,
    aggregation: str,
    logit_scale: float,
) -> tuple[LadderScores, npt.NDArray[np.bool_]]:
    scores = score_blocks(
        images,
        texts,
        class_index,
        step_ends,
        true_class,
        start,
        stop,
        aggregation,
        confidence=True,
        logit_scale=logit_scale,
    )
    ceiling = [
        oracle_correct(*oracle_bounds(images[a:b] @ texts.T, class_index, step_ends, true_class[a:b]))
        for a, b in block_ranges(len(images), len(images))
        if start <= a < stop
    ]
    return scores, np.concatenate(ceiling)


def _shares(n: int) -> list[tuple[int, int]]:
    # twice as many tasks as CPUs evens out slow ones; the cuts fall between blocks, so they change no result
    return block_ranges(n, 2 * int(cluster_cpus()))
