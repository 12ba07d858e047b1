"""Stage 3: the trials; each evaluates one step of a ladder and has one run in MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd

from semscale.study.evaluate import Evaluated, evaluate_trial
from semscale.study.progress import Reporter
from semscale.study.score import LadderKey, ScoredLadder
from semscale.study.study_runs import StudyRuns
from semscale.tracking.recorder import Recorder


def run_trials(ladders: Sequence[ScoredLadder], runs: StudyRuns, folder: Path, report: Reporter) -> pd.DataFrame:
    """Run the trials and return trials.parquet: one row per trial, by curve and rising scale.

    They are a Ray Tune grid (:mod:`semscale.study.grid`), unless an earlier sweep has recorded all of them. Tune keeps
    its own state in `folder`, which other nodes need not see.
    """
    by_key: dict[LadderKey, ScoredLadder] = {scored.key: scored for scored in ladders}
    trials = [(scored.key, k) for scored in ladders for k in range(len(scored.flat.scales))]
    recorded = {trial: run_id for trial in trials if (run_id := runs.recorded(by_key[trial[0]], trial[1]))}
    rows: dict[tuple[LadderKey, int], dict[str, Any]] = {}
    done = count(1)
    with report.stage("trials", len(trials), "trials") as stage:

        def advance() -> None:
            stage(next(done), len(trials))

        def take(evaluated: Evaluated) -> None:
            trial = evaluated.ladder, evaluated.k
            if trial in rows:
                return  # repeated after its worker was lost
            rows[trial] = evaluated.row
            if trial in recorded:
                advance()
            else:
                recorder.put(runs.record(by_key[evaluated.ladder], evaluated))

        with Recorder(runs.tracking, runs.name, runs.known, advance, report.note) as recorder:
            if len(recorded) == len(trials):
                # nothing to record: workers would take longer to start than all of it takes here
                for key, k in trials:
                    take(evaluate_trial(by_key[key], k, with_files=False))
            else:
                from semscale.study.grid import run_grid  # imports Ray Tune

                run_grid(ladders, {trial: trial not in recorded for trial in trials}, folder, take)
        run_ids = recorder.run_ids()
    for (key, k), row in rows.items():
        row["mlflow_run_id"] = recorded.get((key, k)) or run_ids[runs.trial_key(by_key[key], k)]
    return pd.DataFrame([rows[trial] for trial in trials])
