"""Ray Tune grid of the trials: one per scored ladder and scale step."""

from __future__ import annotations

import gc
import math
import tempfile
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.execution import class_cache

from semscale.cluster.connection import cluster_cpus
from semscale.common.errors import SemscaleError
from semscale.common.redact import mask_url
from semscale.study.run_directory import LADDER_KEY
from semscale.study.scoring_stage import LadderKey, ScoredLadder
from semscale.study.trial_evaluation import EvaluatedTrial, evaluate_trial

TrialKey = tuple[LadderKey, int]

# as many as a worker evaluates while another one starts
_IMAGES_PER_WORKER = 500_000
# of one trial: Ray may send it to a lost node several times before it notices the loss
_MAX_FAILURES = 6
# any other failure of a trial would repeat, and Tune would print its traceback each time
_TRANSIENT = (ray.exceptions.RayError, MemoryError)
# Tune survives lost workers but not lost result objects, or a worker lost between trials: its experiment ends, and a
# new one is started with the remaining trials
_LOST = (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError)
_MAX_FRUITLESS = 3

# Tune would put these into the runtime environment of its workers, which Ray logs; local workers inherit them, and
# those of a cluster have their own
class_cache.ENV_VARS_TO_PROPAGATE.difference_update(
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN")
)
# for PyTorch Lightning only; workers start half a second sooner without a runtime environment
class_cache.DEFAULT_ENV_VARS.clear()


class UncopiedResult(deque[EvaluatedTrial | SemscaleError]):
    """Holder of an evaluated trial, or of its permanent error, that Tune neither copies nor prints with the result."""


class StepTrial(tune.Trainable):
    """Tune trainable that evaluates one scale step; its worker process is reused for the next trial."""

    def setup(self, config: dict[str, Any], ladders: Mapping[Any, Any], with_files: Mapping[TrialKey, bool]) -> None:
        """Keep the references of the ladders, once per worker."""
        self._ladders, self._with_files, self._config = ladders, with_files, config
        self._last: ScoredLadder | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Switch to the next trial."""
        self._config = new_config
        return True

    def step(self) -> dict[str, Any]:
        """Evaluate the trial and return it as Tune's only result."""
        outcome: EvaluatedTrial | SemscaleError
        try:
            outcome = self._evaluate(self._config["trial"])
        except _TRANSIENT:
            raise
        except Exception as error:
            outcome = _failure(self._config["trial"], error)
        return {"trial": UncopiedResult([outcome]), tune.result.DONE: True}

    def _evaluate(self, trial: Mapping[str, Any]) -> EvaluatedTrial:
        key: LadderKey = tuple(trial[name] for name in LADDER_KEY)
        if self._last is None or self._last.key != key:  # deserializing takes as long as evaluating a step
            self._last = ray.get(self._ladders[key])
        k = self._last.flat.scales.index(trial["scale"])
        return evaluate_trial(self._last, k, self._with_files[key, k])


class _OnResult(tune.Callback):
    """Tune callback that passes on every evaluated trial and records which are completed."""

    def __init__(self, on_result: Callable[[EvaluatedTrial], None]) -> None:
        self.on_result = on_result
        self.completed: set[TrialKey] = set()
        self.error: SemscaleError | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks for a restore that never happens; a terminal cannot be pickled
        return {}

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        while result["trial"]:
            outcome = result["trial"].pop()
            try:
                if isinstance(outcome, SemscaleError):
                    raise outcome
                self.on_result(outcome)
            except SemscaleError as error:
                self.error = error  # Tune raises a TuneError with the traceback as its message
                raise
            self.completed.add((outcome.ladder, outcome.k))


def run_grid(
    ladders: Sequence[ScoredLadder],
    with_files: Mapping[TrialKey, bool],
    folder: Path,
    on_result: Callable[[EvaluatedTrial], None],
) -> None:
    """Evaluate the trials, with files where requested, and call `on_result` with each, in any order."""
    images = sum(len(scored.true_class) * len(scored.flat.scales) for scored in ladders)
    workers = min(math.ceil(images / _IMAGES_PER_WORKER), int(cluster_cpus()))
    references = {scored.key: ray.put(scored) for scored in ladders}
    scales = {scored.key: scored.flat.scales for scored in ladders}
    callback = _OnResult(on_result)
    fruitless = 0
    while remaining := {key: needed for key, needed in with_files.items() if key not in callback.completed}:
        if fruitless > _MAX_FRUITLESS:
            what, found = "the workers that evaluate the trials are lost repeatedly", f"{fruitless} times in a row"
            hint = "too little memory is the usual reason; run the same command again: finished trials are kept"
            raise SemscaleError(what, found=f"{found} without a result", hint=hint)
        trials = [dict(zip(LADDER_KEY, key, strict=True)) | {"scale": scales[key][k]} for key, k in remaining]
        trainable = tune.with_parameters(StepTrial, ladders=references, with_files=remaining)
        error = _fit(trainable, trials, workers, folder, callback)
        if callback.error is not None:
            raise callback.error
        if error is not None and not isinstance(error, _LOST):
            raise error
        gc.collect()  # releases what the ended experiment has reserved in the cluster
        fruitless = fruitless + 1 if len(callback.completed) + len(remaining) == len(with_files) else 0


def _fit(
    trainable: Any, trials: Sequence[Any], workers: int, folder: Path, callback: _OnResult
) -> BaseException | None:
    """Run an experiment and return the error that ended it early, if any."""
    # Tune requires a folder for its own state; that of a sweep is in the store, the run directory and MLflow
    with tempfile.TemporaryDirectory(prefix=".tune-", dir=folder) as scratch:
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": 1}),
            param_space={"trial": tune.grid_search(list(trials))},
            tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=workers),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=str(Path(scratch).resolve()),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=_MAX_FAILURES),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # nothing to resume
                callbacks=[callback],
            ),
        )
        try:
            failed = next((result for result in tuner.fit() if result.error), None)
        except Exception as error:
            return error.__cause__ if isinstance(error.__cause__, _LOST) else error
    if failed is None or isinstance(failed.error, _LOST):
        return failed and failed.error
    return _failure((failed.config or {}).get("trial", {}), failed.error)


def _failure(trial: Mapping[str, Any], error: BaseException) -> SemscaleError:
    where = " / ".join(f"{name} {trial.get(name)}" for name in (*LADDER_KEY, "scale") if name != "model")
    found = mask_url("".join(traceback.format_exception_only(error)).strip().splitlines()[-1])
    hint = "run the same command again: finished trials are kept"
    return SemscaleError("a trial failed", where=where, found=found, hint=hint)
