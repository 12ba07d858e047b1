"""Stage 2: predictions of every step of every ladder under every aggregation, as Ray tasks over blocks of images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import ray
from threadpoolctl import threadpool_limits

from semscale.categories.ladder import FlatLadder, Ladder
from semscale.config import StudyConfig
from semscale.errors import SemscaleError
from semscale.scoring.kernel import (
    LadderInputs,
    LadderScores,
    ScoreOptions,
    block_ranges,
    join_scores,
    score_aggregations,
)
from semscale.study.place import Place
from semscale.study.rundir import LADDER_KEY

if TYPE_CHECKING:
    from semscale.study.encode import EncodedArm  # brings clip-client along, which trial workers do not need

Int32 = npt.NDArray[np.int32]
CurveKey = tuple[str, str, str, str]
LadderKey = tuple[str, str, str, int, str]

# multiplications of a ladder that take a tenth of a second, while a worker takes one to start
_SMALL = 5_000_000_000


@dataclass(frozen=True)
class ScoredLadder:
    """Predictions of one dataset x model x strategy x order x aggregation at every step, and what a trial needs of it.

    Attributes:
        dataset, model, strategy, order, aggregation: which curve it belongs to.
        ladder: the category sets.
        flat: the ladder's texts as the kernel takes them.
        files: names of the n images.
        true_class: int32[n], index into the ladder's classes.
        scores: the kernel's answer, [n, S], with confidences and the ceiling.
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
    images: Any
    texts: Any

    @property
    def key(self) -> LadderKey:
        """Return dataset, model, strategy, order and aggregation."""
        return self.dataset, self.model, self.strategy, self.order, self.aggregation

    @property
    def curve(self) -> CurveKey:
        """Return the curve that it belongs to: dataset, model, strategy and aggregation."""
        return self.dataset, self.model, self.strategy, self.aggregation

    @property
    def columns(self) -> dict[str, Any]:
        """Return the columns that identify it in every table."""
        return dict(zip(LADDER_KEY, self.key, strict=True))

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Return bool[n, S]: which images are labelled right at which step."""
        return np.asarray(self.scores.true_rank == 0)

    @property
    def ceiling(self) -> npt.NDArray[np.bool_]:
        """Return bool[n, S]: what some choice among the offered categories could label right at which step."""
        return self.scores.ceiling

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


def named(study: StudyConfig, key: LadderKey | CurveKey) -> tuple[str | int, ...]:
    """Return what names a curve or a ladder in keys and files: the aggregation, which is last, if there are several."""
    return key if len(study.aggregations) > 1 else key[:-1]


@dataclass
class Tally:
    """How many images a device scored, and how many of them were near a tie and decided in float64."""

    on_device: int = 0
    again: int = 0


def score_arm(
    encoded: EncodedArm, model: str, aggregations: Sequence[str], place: Place, tally: Tally
) -> list[ScoredLadder]:
    """Score all ladders of a dataset under all aggregations; the image embeddings go into the object store once.

    Args:
        encoded: the dataset, with embeddings.
        model: its name.
        aggregations: one product serves them all.
        place: where it is done.
        tally: is added to.
    """
    logit_scale = encoded.encoder.identity.logit_scale
    dataset = encoded.arm.dataset
    samples = dataset.samples.pick(encoded.images.positions)
    files, true_class = samples.files(), samples.class_index
    images = ray.put(encoded.image_embeddings())
    pending = []
    for ladder in encoded.arm.ladders:
        flat = ladder.flatten()
        texts = ray.put(encoded.text_embeddings(flat.texts))
        tasks = _start(images, texts, flat, true_class, tuple(aggregations), logit_scale, place)
        pending.append((ladder, flat, texts, tasks))
    scored = []
    for ladder, flat, texts, tasks in pending:
        parts = _parts(tasks)
        tally.on_device += sum(part.on_device for part in parts)
        tally.again += sum(part.again for part in parts)
        scored += [
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
                scores=join_scores([part.scores[aggregation] for part in parts]),
                images=images,
                texts=texts,
            )
            for aggregation in aggregations
        ]
    return scored


@dataclass(frozen=True)
class _Part:
    """Scores of a range of images by aggregation, and what the tally counts."""

    scores: Mapping[str, LadderScores]
    on_device: int = 0
    again: int = 0


def _parts(tasks: Sequence[Any]) -> list[_Part]:
    try:
        return list(ray.get(list(tasks)))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, SemscaleError):
            raise error.cause from None  # a device that a worker has not, and not its traceback
        raise


def _start(
    images: Any,
    texts: Any,
    flat: FlatLadder,
    true_class: Int32,
    aggregations: tuple[str, ...],
    logit_scale: float,
    place: Place,
) -> list[Any]:
    """Return references of the parts of a ladder's scores; small ones are computed at once, without a device."""
    pictures = ray.get(images)
    n, dimension = pictures.shape
    small = place.device != "cpu" and n * dimension * len(flat.texts) <= _SMALL
    device = None if small else place.device
    remotely = _score_remotely.options(**place.options) if place.options else _score_remotely
    here = small or place.here
    with threadpool_limits(1) if small else nullcontext():  # as in a worker, so that where it is makes no difference
        return [
            ray.put(_score_range(pictures, ray.get(texts), *what)) if here else remotely.remote(images, texts, *what)
            # the cuts fall between blocks, so they change no result
            for start, stop in block_ranges(n, place.tasks)
            for what in [(flat.class_index, flat.step_ends, true_class, start, stop, aggregations, logit_scale, device)]
        ]


def _score_range(
    images: npt.NDArray[np.float32],
    texts: npt.NDArray[np.float32],
    class_index: Int32,
    step_ends: npt.NDArray[np.int64],
    true_class: Int32,
    start: int,
    stop: int,
    aggregations: tuple[str, ...],
    logit_scale: float,
    device: str | None,
) -> _Part:
    # The embeddings are read-only views of the object store. Ray gives a task of one CPU OMP_NUM_THREADS=1, which the
    # product and the blocks keep to.
    if device == "auto":
        device = "cuda" if _torch_sees_a_gpu() else None
    inputs = LadderInputs(images, texts, class_index, step_ends, true_class)
    options = ScoreOptions(confidence=True, ceiling=True, logit_scale=logit_scale)
    if device is None:
        return _Part(score_aggregations(inputs, aggregations, options, start=start, stop=stop))
    from semscale.scoring.torch_backend import score_on_device

    found = score_on_device(inputs, aggregations, options, device=device, start=start, stop=stop)
    return _Part(found.scores, stop - start, found.rescored)


_score_remotely = ray.remote(max_retries=3)(_score_range)


def _torch_sees_a_gpu() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()
