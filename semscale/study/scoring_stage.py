"""Stage 2, score: predictions of all steps of all ladders and aggregations, by Ray tasks over blocks of images."""

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
    from semscale.study.encoding_stage import EncodedArm  # imports clip-client, which trial workers do not need

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
CurveKey = tuple[str, str, str, str]
LadderKey = tuple[str, str, str, int, str]

# multiplications of a ladder that take a tenth of a second; a worker takes a second to start
_SMALL = 5_000_000_000


@dataclass(frozen=True)
class ScoredLadder:
    """Predictions of one model with one ladder (dataset, strategy and order) and aggregation at every step.

    `true_class` is int32[n], indices into the ladder's classes; the scores are [n, S]; `images`, shared by all ladders
    of a dataset, and `texts` are Ray references of the embeddings, float32[n, dimension] and float32[m, dimension].
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
        """The key columns of the ladder in every table."""
        return dict(zip(LADDER_KEY, self.key, strict=True))

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Return whether each image is labelled correctly at each step, bool[n, S]."""
        return np.asarray(self.scores.true_rank == 0)

    def digest(self) -> str:
        """Return 12 hex digits that change when any prediction, true class or category set changes."""
        sha = hashlib.sha256(self.ladder.digest.encode())
        sha.update("\n".join([self.aggregation, self.model, *self.files]).encode())
        # without margins, which may differ in the last bit between machines
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
    """Return the parts of a curve's or ladder's name in keys and files; the aggregation only if there are several."""
    return key if len(study.aggregations) > 1 else key[:-1]


@dataclass(frozen=True)
class ScoringPlacement:
    """Placement of scoring: the number of tasks and their Ray options, or this process (`in_process`).

    The device is one of torch's, None for the numpy kernel, or `auto` for a GPU if a worker's torch sees one.
    """

    device: str | None
    tasks: int
    options: Mapping[str, Any] = field(default_factory=dict)
    in_process: bool = False


def check_device(name: str, address: str | None) -> None:
    """Raise SemscaleError if a requested GPU of this machine is missing; those of a cluster are not known yet."""
    elsewhere = address or os.environ.get("RAY_ADDRESS") or ray.is_initialized()
    if name.startswith("cuda:") or (name == "cuda" and not elsewhere):
        from semscale.scoring.torch_backend import find_device

        find_device(name)


def choose_placement(name: str) -> ScoringPlacement:
    """Return the placement on the connected cluster; SemscaleError if it lacks the requested GPUs."""
    if name.startswith("cuda:"):
        return ScoringPlacement(name, 1, in_process=True)  # Ray would hide all GPUs but the one it chooses
    free = int(ray.available_resources().get("GPU", 0))
    if name in ("cuda", "auto") and free:
        return ScoringPlacement(name, free, {"num_gpus": 1, "num_cpus": _cpus_beside_a_gpu()})
    if name == "cuda":
        total, what, found = int(ray.cluster_resources().get("GPU", 0)), "no GPU", "0 GPUs among its resources"
        if total:
            what, found = "no free GPU", f"{total} GPUs, all in use"
        what, where = f"the Ray cluster has {what} for scoring", "scoring: {device: cuda}"
        hint = "device: auto falls back to CPUs; the results are the same"
        raise SemscaleError(what, where=where, found=found, hint=hint)
    # two tasks per CPU balance slow ones
    return ScoringPlacement("cpu" if name == "torch:cpu" else None, 2 * int(cluster_cpus()))


def _cpus_beside_a_gpu() -> int:
    """Return the smallest number of CPUs per GPU of any node: near ties are scored again on the CPU."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    shares = [int(node.get("CPU", 0) // node["GPU"]) for node in nodes if node.get("GPU", 0) >= 1]
    return max(1, min(shares, default=1))


def score_arm(
    encoded: EncodedArm, model: str, aggregations: Sequence[str], placement: ScoringPlacement, counts: Counter[str]
) -> list[ScoredLadder]:
    """Score all ladders of a dataset under all aggregations, with one matrix product per ladder.

    Adds to `counts` the images ``scored`` on a device and those ``rescored`` in float64 because of near ties.
    """
    options = ScoreOptions(confidence=True, ceiling=True, logit_scale=encoded.encoder.identity.logit_scale)
    samples = encoded.arm.dataset.samples.pick(encoded.images.positions)
    files, true_class = samples.files(), samples.class_index
    images = ray.put(encoded.encoder.image_embeddings(encoded.images.keys))
    pending = []
    for ladder in encoded.arm.ladders:
        flat = ladder.flatten()
        texts = ray.put(encoded.encoder.text_embeddings(flat.texts))
        shared = _SharedInputs(flat.class_index, flat.step_ends, true_class, tuple(aggregations), options)
        pending.append((ladder, flat, texts, _submit(images, texts, shared, placement)))
    scored = []
    for ladder, flat, texts, tasks in pending:
        parts = _results(tasks)
        counts.update(scored=sum(part.on_device for part in parts), rescored=sum(part.rescored for part in parts))
        for aggregation in aggregations:
            scores = join_scores([part.scores[aggregation] for part in parts])
            scored.append(ScoredLadder(model, aggregation, ladder, flat, files, true_class, scores, images, texts))
    return scored


@dataclass(frozen=True)
class _SharedInputs:
    """Inputs shared by all tasks of a ladder, without the embeddings."""

    class_index: Int32
    step_ends: npt.NDArray[np.int64]
    true_class: Int32
    aggregations: tuple[str, ...]
    options: ScoreOptions


@dataclass(frozen=True)
class _RangeScores:
    """Scores of a range of images by aggregation, and the numbers of images scored on a device and rescored."""

    scores: Mapping[str, LadderScores]
    on_device: int = 0
    rescored: int = 0


def _submit(images: Any, texts: Any, shared: _SharedInputs, placement: ScoringPlacement) -> list[Any]:
    """Return references of a ladder's scores by range; small ladders are scored immediately, without a device."""
    rows = ray.get(images)
    small = placement.device != "cpu" and rows.size * len(shared.class_index) <= _SMALL
    ranges = block_ranges(len(rows), placement.tasks)  # of whole blocks, so that they change no result
    if not (small or placement.in_process):
        remote = _score_remotely.options(**placement.options)
        return [remote.remote(images, texts, shared, start, stop, placement.device) for start, stop in ranges]
    device = None if small else placement.device
    with threadpool_limits(1) if small else nullcontext():  # as in a worker, for equal results
        return [ray.put(_score_range(rows, ray.get(texts), shared, start, stop, device)) for start, stop in ranges]


def _results(tasks: Sequence[Any]) -> list[_RangeScores]:
    try:
        return list(ray.get(list(tasks)))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, SemscaleError):
            raise error.cause from None  # such as a missing device, without the traceback
        raise


def _score_range(
    images: Float32, texts: Float32, shared: _SharedInputs, start: int, stop: int, device: str | None
) -> _RangeScores:
    # the embeddings are read-only views of the object store; Ray sets OMP_NUM_THREADS=1 for a task of one CPU
    if device == "auto":
        device = None
        with suppress(ImportError):
            import torch

            device = "cuda" if torch.cuda.is_available() else None
    inputs = LadderInputs(images, texts, shared.class_index, shared.step_ends, shared.true_class)
    if device is None:
        return _RangeScores(score_aggregations(inputs, shared.aggregations, shared.options, start=start, stop=stop))
    from semscale.scoring.torch_backend import score_on_device

    result = score_on_device(inputs, shared.aggregations, shared.options, device=device, start=start, stop=stop)
    return _RangeScores(result.scores, stop - start, result.rescored)


_score_remotely = ray.remote(max_retries=3)(_score_range)
