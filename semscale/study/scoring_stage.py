"""Stage 2: predictions of every step of every ladder under every aggregation, as Ray tasks over blocks of images."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import ray
from threadpoolctl import threadpool_limits

from semscale.categories.ladder import FlatLadder, Ladder
from semscale.cluster.connection import cluster_cpus
from semscale.common.errors import SemscaleError
from semscale.config import StudyConfig
from semscale.scoring.kernel import (
    LadderInputs,
    LadderScores,
    ScoreOptions,
    block_ranges,
    join_scores,
    score_aggregations,
)
from semscale.study.run_directory import LADDER_KEY

if TYPE_CHECKING:
    from semscale.study.encoding_stage import EncodedArm  # brings clip-client along, which trial workers do not need

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
CurveKey = tuple[str, str, str, str]
LadderKey = tuple[str, str, str, int, str]

# multiplications of a ladder that take a tenth of a second, while a worker takes one to start
_SMALL = 5_000_000_000


@dataclass(frozen=True)
class ScoredLadder:
    """Predictions of one model with one ladder (dataset, strategy and order) and aggregation at every step.

    `true_class` is int32[n], an index into the ladder's classes; the scores are [n, S]; `images` and `texts` are Ray
    references of the embeddings, float32 [n, dimension], one for all ladders of a dataset, and [m, dimension].
    """

    model: str
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
        """Dataset, model, strategy, order and aggregation."""
        return self.ladder.dataset, self.model, self.ladder.strategy, self.ladder.order, self.aggregation

    @property
    def curve(self) -> CurveKey:
        """Dataset, model, strategy and aggregation."""
        return self.ladder.dataset, self.model, self.ladder.strategy, self.aggregation

    @property
    def columns(self) -> dict[str, Any]:
        """The columns that identify it in every table."""
        return dict(zip(LADDER_KEY, self.key, strict=True))

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Which images are labelled right at which step, bool[n, S]."""
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
        classes = [self.ladder.classes[index] for index in self.true_class]
        columns: dict[str, Any] = {"file": self.files, "true_class": classes}
        for k, step in enumerate(self.ladder.steps):
            columns[str(step.n_categories)] = texts[self.scores.predicted_category[:, k]]
        return pd.DataFrame(columns)


def curve_path_parts(study: StudyConfig, key: LadderKey | CurveKey) -> tuple[str | int, ...]:
    """Return what names a curve or a ladder in keys and files: the aggregation, which is last, if there are several."""
    return key if len(study.aggregations) > 1 else key[:-1]


@dataclass(frozen=True)
class ScoringPlacement:
    """Where a ladder is scored: in so many tasks with these resources of Ray, or here, in this process.

    The device is one of torch's, None for the numpy kernel, `auto` for a GPU where a worker's torch sees one.
    """

    device: str | None
    tasks: int
    options: Mapping[str, Any] = field(default_factory=dict)
    here: bool = False


def check_device(name: str, address: str | None) -> None:
    """Refuse a GPU of this machine that is missing, before anything starts; those of a cluster are not known yet."""
    elsewhere = address or os.environ.get("RAY_ADDRESS") or ray.is_initialized()
    if name.startswith("cuda:") or (name == "cuda" and not elsewhere):
        from semscale.scoring.torch_backend import find_device

        find_device(name)


def choose_placement(name: str) -> ScoringPlacement:
    """Return where the connected cluster scores; SemscaleError if it has none of the GPUs that are required."""
    if name.startswith("cuda:"):
        return ScoringPlacement(name, 1, here=True)  # Ray would hide all GPUs but the one that it chooses
    free = int(ray.available_resources().get("GPU", 0))
    if name in ("cuda", "auto") and free:
        return ScoringPlacement(name, free, {"num_gpus": 1, "num_cpus": _cpus_beside_a_gpu()})
    if name == "cuda":
        total, what, found = int(ray.cluster_resources().get("GPU", 0)), "no GPU", "0 GPUs among its resources"
        if total:
            what, found = "no free GPU", f"{total} GPUs, all in use"
        what, where = f"the Ray cluster has {what} for scoring", "scoring: {device: cuda}"
        hint = "device: auto takes the CPUs where there is none; the results are the same"
        raise SemscaleError(what, where=where, found=found, hint=hint)
    # twice as many tasks as CPUs evens out slow ones
    return ScoringPlacement("cpu" if name == "torch:cpu" else None, 2 * int(cluster_cpus()))


def _cpus_beside_a_gpu() -> int:
    """Return how many CPUs each GPU of the poorest node can have: near ties are scored again on the CPU."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    shares = [int(node.get("CPU", 0) // node["GPU"]) for node in nodes if node.get("GPU", 0) >= 1]
    return max(1, min(shares, default=1))


def score_arm(
    encoded: EncodedArm, model: str, aggregations: Sequence[str], placement: ScoringPlacement, counts: Counter[str]
) -> list[ScoredLadder]:
    """Score all ladders of a dataset under all aggregations with one product.

    Added to `counts` are the images that a device ``scored``, and ``rescored`` ones: near ties, decided in float64.
    """
    options = ScoreOptions(confidence=True, ceiling=True, logit_scale=encoded.encoder.identity.logit_scale)
    samples = encoded.arm.dataset.samples.pick(encoded.images.positions)
    files, true_class = samples.files(), samples.class_index
    images = ray.put(encoded.encoder.image_embeddings(encoded.images.keys))
    pending = []
    for ladder in encoded.arm.ladders:
        flat = ladder.flatten()
        texts = ray.put(encoded.encoder.text_embeddings(flat.texts))
        work = _LadderWork(flat.class_index, flat.step_ends, true_class, tuple(aggregations), options)
        pending.append((ladder, flat, texts, _start(images, texts, work, placement)))
    scored = []
    for ladder, flat, texts, tasks in pending:
        parts = _parts(tasks)
        counts.update(scored=sum(part.on_device for part in parts), rescored=sum(part.rescored for part in parts))
        for aggregation in aggregations:
            scores = join_scores([part.scores[aggregation] for part in parts])
            scored.append(ScoredLadder(model, aggregation, ladder, flat, files, true_class, scores, images, texts))
    return scored


@dataclass(frozen=True)
class _LadderWork:
    """What all tasks of a ladder need besides the embeddings."""

    class_index: Int32
    step_ends: npt.NDArray[np.int64]
    true_class: Int32
    aggregations: tuple[str, ...]
    options: ScoreOptions


@dataclass(frozen=True)
class _Part:
    """Scores of a range of images by aggregation, and the images that a device scored, and scored again."""

    scores: Mapping[str, LadderScores]
    on_device: int = 0
    rescored: int = 0


def _start(images: Any, texts: Any, work: _LadderWork, placement: ScoringPlacement) -> list[Any]:
    """Return references of the parts of a ladder's scores; small ones are computed at once, without a device."""
    rows = ray.get(images)
    small = placement.device != "cpu" and rows.size * len(work.class_index) <= _SMALL
    ranges = block_ranges(len(rows), placement.tasks)  # the cuts fall between blocks, so they change no result
    if not (small or placement.here):
        remote = _score_remotely.options(**placement.options)
        return [remote.remote(images, texts, work, start, stop, placement.device) for start, stop in ranges]
    device = None if small else placement.device
    with threadpool_limits(1) if small else nullcontext():  # as in a worker, so that where it is makes no difference
        return [ray.put(_score_range(rows, ray.get(texts), work, start, stop, device)) for start, stop in ranges]


def _parts(tasks: Sequence[Any]) -> list[_Part]:
    try:
        return list(ray.get(list(tasks)))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, SemscaleError):
            raise error.cause from None  # a device that a worker has not, and not its traceback
        raise


def _score_range(
    images: Float32, texts: Float32, work: _LadderWork, start: int, stop: int, device: str | None
) -> _Part:
    # The embeddings are read-only views of the object store. Ray gives a task of one CPU OMP_NUM_THREADS=1, which the
    # product and the blocks keep to.
    if device == "auto":
        device = None
        with suppress(ImportError):
            import torch

            device = "cuda" if torch.cuda.is_available() else None
    inputs = LadderInputs(images, texts, work.class_index, work.step_ends, work.true_class)
    if device is None:
        return _Part(score_aggregations(inputs, work.aggregations, work.options, start=start, stop=stop))
    from semscale.scoring.torch_backend import score_on_device

    found = score_on_device(inputs, work.aggregations, work.options, device=device, start=start, stop=stop)
    return _Part(found.scores, stop - start, found.rescored)


_score_remotely = ray.remote(max_retries=3)(_score_range)
