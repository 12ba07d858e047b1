"""Stage 3: the trials; each evaluates one step of a ladder and records one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from semscale.sweep.evaluate import evaluate_step, trial_details
from semscale.sweep.progress import Stage
from semscale.sweep.rundir import LADDER_KEY
from semscale.sweep.score import ScoredLadder
from semscale.tracking.records import record_trial
from semscale.tracking.store import TrackingStore


@dataclass(frozen=True)
class TrialContext:
    """What every trial worker is given, through the object store.

    Attributes:
        ladders: Ray reference of the scored ladder by (dataset, model, strategy, order).
        curve_runs: MLflow run id, key and title of each curve, by (dataset, model, strategy).
        tracking: where the runs go.
        study_name: for the tag that filters by study.
        recorded: run id by key of the trials that an earlier sweep completed.
    """

    ladders: Mapping[tuple[str, str, str, int], Any]
    curve_runs: Mapping[tuple[str, str, str], tuple[str, str, str]]
    tracking: TrackingStore
    study_name: str
    recorded: Mapping[str, str] = field(default_factory=dict)


def trial_key(context: TrialContext, scored: ScoredLadder, k: int) -> str:
    """Return the key under which MLflow has the trial of step k."""
    _, key, _ = context.curve_runs[scored.curve]
    return f"{key}/o={scored.order}/s={scored.flat.scales[k]}"


def run_trial(context: TrialContext, client: Any, scored: ScoredLadder, k: int) -> dict[str, Any]:
    """Evaluate step k, record it unless it is recorded, and return its row of trials.parquet."""
    row = evaluate_step(scored, k)
    key = trial_key(context, scored, k)
    parent, _, title = context.curve_runs[scored.curve]
    row["mlflow_run_id"] = context.recorded.get(key) or record_trial(
        client,
        context.tracking,
        key,
        parent,
        context.study_name,
        title,
        row,
        lambda: trial_details(scored, k),
    )
    return row


def grid_size(ladders: Sequence[ScoredLadder]) -> int:
    """Return the number of trials in the grid."""
    return sum(len(scored.flat.scales) for scored in ladders)


def run_trials(ladders: Sequence[ScoredLadder], context: TrialContext, folder: Path, stage: Stage) -> pd.DataFrame:
    """Run the trials and return trials.parquet: one row per trial, by curve and rising scale.

    They are a Ray Tune grid (:mod:`semscale.sweep.grid`), unless an earlier sweep has recorded all of them.

    Args:
        ladders: the scored ladders of all curves.
        context: what the workers are given.
        folder: the run directory, where Tune's own state lies while it runs; with several nodes a shared one.
        stage: is told how many trials are done.

    Raises:
        SemscaleError: a trial failed, also when repeated.
    """
    places = [(scored, k) for scored in ladders for k in range(len(scored.flat.scales))]
    if all(trial_key(context, scored, k) in context.recorded for scored, k in places):
        # nothing to record: workers would take longer to start than all of it takes here
        rows = []
        for scored, k in places:
            rows.append(run_trial(context, None, scored, k))
            stage(len(rows), len(places))
    else:
        from semscale.sweep.grid import run_grid

        rows = run_grid(ladders, context, folder, stage)
    table = pd.DataFrame(rows)
    place = {scored.key: index for index, scored in enumerate(ladders)}
    ladder = [place[key] for key in table[list(LADDER_KEY)].itertuples(index=False, name=None)]
    ordered = table.assign(ladder=ladder).sort_values(["ladder", "scale"], kind="stable")
    return ordered.drop(columns="ladder").reset_index(drop=True)
