"""The trials as a Ray Tune grid of dataset x model x strategy x order x scale."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.execution import class_cache

from semscale.errors import SemscaleError
from semscale.redact import without
from semscale.sweep.progress import Stage
from semscale.sweep.score import ScoredLadder
from semscale.sweep.trials import TrialContext, grid_size, run_trial

# Tune would put these into the runtime environment of its workers, which Ray writes to a log file; local workers
# inherit them, and those of a cluster have their own, as for reading the images
class_cache.ENV_VARS_TO_PROPAGATE.difference_update(
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN")
)


class StepTrial(tune.Trainable):
    """Evaluates one scale step; the worker process is used again for the next trial."""

    def setup(self, config: dict[str, Any], context: TrialContext) -> None:
        """Connect to MLflow once per worker."""
        self._context = context
        self._client = context.tracking.client()
        self._config = config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take over the next trial's place in the grid."""
        self._config = new_config
        return True

    def step(self) -> dict[str, Any]:
        """Evaluate and record the trial; its whole row is Tune's result."""
        curve = (self._config["dataset"], self._config["model"], self._config["strategy"])
        reference = self._context.ladders.get((*curve, self._config["order"]))
        scored: ScoredLadder | None = ray.get(reference) if reference is not None else None
        if scored is None or self._config["scale"] not in scored.flat.scales:
            # ladders may differ in length, and controls between datasets; the grid is a full product
            return {"row": None, tune.result.DONE: True}
        k = scored.flat.scales.index(self._config["scale"])
        return {"row": run_trial(self._context, self._client, scored, k), tune.result.DONE: True}


class _Advance(tune.Callback):
    def __init__(self, total: int, stage: Stage) -> None:
        self.total = total
        self.stage = stage
        self.done = 0

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks for a restore that is never asked for; a terminal cannot be pickled
        return {"total": self.total, "done": self.done}

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.done += 1
        self.stage(self.done, self.total)


def run_grid(
    ladders: Sequence[ScoredLadder], context: TrialContext, folder: Path, stage: Stage
) -> list[dict[str, Any]]:
    """Run the grid and return a row per trial, in Tune's order; arguments as of :func:`run_trials`.

    Raises:
        SemscaleError: a trial failed, also when repeated.
    """
    space = {
        "dataset": tune.grid_search(list(dict.fromkeys(scored.dataset for scored in ladders))),
        "model": tune.grid_search(list(dict.fromkeys(scored.model for scored in ladders))),
        "strategy": tune.grid_search(list(dict.fromkeys(scored.strategy for scored in ladders))),
        "order": tune.grid_search(list(dict.fromkeys(scored.order for scored in ladders))),
        "scale": tune.grid_search(sorted({scale for scored in ladders for scale in scored.flat.scales})),
    }
    # Tune insists on a folder for its own state; ours is the store, the run directory and MLflow
    with tempfile.TemporaryDirectory(prefix=".tune-", dir=folder) as scratch:
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(StepTrial, context=context), {"cpu": 1}),
            param_space=space,
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=str(Path(scratch).resolve()),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=2),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # nothing to go on from
                callbacks=[_Advance(grid_size(ladders), stage)],
            ),
        )
        results = tuner.fit()
    rows = []
    for result in results:
        if result.error is not None:
            raise _failure(result, context.tracking.uri)
        if result.metrics and result.metrics["row"] is not None:
            rows.append(result.metrics["row"])
    return rows


def _failure(result: Any, uri: str) -> SemscaleError:
    cause = getattr(result.error, "cause", None)
    if isinstance(cause, SemscaleError):
        return cause
    config = result.config or {}
    return SemscaleError(
        "a trial failed",
        where=" / ".join(f"{name} {config.get(name)}" for name in ("dataset", "strategy", "order", "scale")),
        found=without((str(result.error).strip() or type(result.error).__name__).splitlines()[-1], uri),
        hint="give the same command again: what is finished is kept",
    )
