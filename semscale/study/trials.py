"""Stage 3: the trials; each evaluates one step of a ladder and has one run in MLflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from semscale.study.evaluate import Evaluated, evaluate_trial, trial_name
from semscale.study.progress import Stage
from semscale.study.rundir import LADDER_KEY
from semscale.study.score import CurveKey, ScoredLadder
from semscale.tracking.inputs import DatasetUsed
from semscale.tracking.recorder import Recorder
from semscale.tracking.records import TrialRecord
from semscale.tracking.runs import is_finished
from semscale.tracking.store import TrackingStore


@dataclass(frozen=True)
class TrialContext:
    """Where trials are recorded.

    Attributes:
        curve_runs: MLflow run id, key and title of each curve, by (dataset, model, strategy, aggregation).
        tracking: where the runs go.
        study_name: for the tag that filters by study.
        known: run by key of the trials that an earlier sweep recorded, or began to.
        datasets: what MLflow knows of the datasets, by name and model.
    """

    curve_runs: Mapping[CurveKey, tuple[str, str, str]]
    tracking: TrackingStore
    study_name: str
    known: Mapping[str, Any] = field(default_factory=dict)
    datasets: Mapping[tuple[str, str], DatasetUsed] = field(default_factory=dict)

    def key(self, scored: ScoredLadder, k: int) -> str:
        """Return the key under which MLflow has the trial of step k."""
        _, key, _ = self.curve_runs[scored.curve]
        return f"{key}/o={scored.order}/s={scored.flat.scales[k]}"

    def recorded(self, scored: ScoredLadder, k: int) -> str | None:
        """Return the run id of step k's trial if an earlier sweep has completed it."""
        run = self.known.get(self.key(scored, k))
        return str(run.info.run_id) if run is not None and is_finished(run) else None

    def title(self, scored: ScoredLadder, k: int) -> str | None:
        """Return the title of the files of step k's trial; None for one that is recorded and needs none."""
        return None if self.recorded(scored, k) else self.curve_runs[scored.curve][2]

    def record(self, scored: ScoredLadder, trial: Evaluated) -> TrialRecord:
        """Return what is to be recorded of an evaluated trial."""
        parent, _, title = self.curve_runs[scored.curve]
        name = trial_name(title, trial.row)
        dataset = self.datasets.get((scored.dataset, scored.model))
        key = self.key(scored, trial.k)
        return TrialRecord(key, parent, name, trial.row, trial.class_accuracy, trial.files, dataset)


def places_of(ladders: Sequence[ScoredLadder]) -> list[tuple[ScoredLadder, int]]:
    """Return every trial as its ladder and the index of its step."""
    return [(scored, k) for scored in ladders for k in range(len(scored.flat.scales))]


def run_trials(
    ladders: Sequence[ScoredLadder], context: TrialContext, folder: Path, stage: Stage, note: Callable[[str], None]
) -> pd.DataFrame:
    """Run the trials and return trials.parquet: one row per trial, by curve and rising scale.

    They are a Ray Tune grid (:mod:`semscale.study.grid`), unless an earlier sweep has recorded all of them.

    Args:
        ladders: the scored ladders of all curves.
        context: where they are recorded.
        folder: the run directory, where Tune's own state lies while it runs; other nodes need not see it.
        stage: is told how many trials are done.
        note: says that MLflow is waited for.

    Raises:
        SemscaleError: a trial failed, also when repeated; MLflow does not take the results.
    """
    places = places_of(ladders)
    by_key: dict[tuple[Any, ...], ScoredLadder] = {scored.key: scored for scored in ladders}
    rows: list[dict[str, Any]] = []
    taken: set[tuple[object, int]] = set()
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        stage(done, len(places))

    with Recorder(context.tracking, context.study_name, context.known, advance, note) as recorder:

        def take(trial: Evaluated) -> None:
            scored = by_key[trial.ladder]
            if (trial.ladder, trial.k) in taken:
                return  # repeated after its worker was lost
            taken.add((trial.ladder, trial.k))
            rows.append(trial.row)
            if run_id := context.recorded(scored, trial.k):
                trial.row["mlflow_run_id"] = run_id
                advance()
            else:
                recorder.put(context.record(scored, trial))

        if all(context.recorded(scored, k) for scored, k in places):
            # nothing to record: workers would take longer to start than all of it takes here
            for scored, k in places:
                take(evaluate_trial(scored, k, None))
        else:
            from semscale.study.grid import run_grid

            run_grid(ladders, {(scored.key, k): context.title(scored, k) for scored, k in places}, folder, take)
    run_ids = recorder.run_ids()
    for row in rows:
        scored = by_key[tuple(row[name] for name in LADDER_KEY)]
        if "mlflow_run_id" not in row:
            row["mlflow_run_id"] = run_ids[context.key(scored, scored.flat.scales.index(row["scale"]))]
    table = pd.DataFrame(rows)
    place = {scored.key: index for index, scored in enumerate(ladders)}
    ladder = [place[key] for key in table[list(LADDER_KEY)].itertuples(index=False, name=None)]
    ordered = table.assign(ladder=ladder).sort_values(["ladder", "scale"], kind="stable")
    return ordered.drop(columns="ladder").reset_index(drop=True)
