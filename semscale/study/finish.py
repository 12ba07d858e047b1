"""Stages 3 and 4: the trials, the conclusions, and what remains of a study in files and in MLflow."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from semscale.config import StudyConfig
from semscale.study.arms import Arm
from semscale.study.conclude import Conclusions, conclude_study
from semscale.study.encode import EncodedModel
from semscale.study.progress import Reporter
from semscale.study.results import write_results
from semscale.study.rundir import RunDirectory
from semscale.study.score import ScoredLadder
from semscale.study.study_runs import StudyRuns
from semscale.study.trials import places_of, run_trials
from semscale.tracking.store import TrackingStore


def try_and_conclude(
    study: StudyConfig,
    arms: Sequence[Arm],
    scored: Sequence[ScoredLadder],
    encoded: Sequence[EncodedModel],
    tracking: TrackingStore,
    directory: RunDirectory,
    report: Reporter,
    quarantined: int,
) -> tuple[pd.DataFrame, Conclusions]:
    """Run the trials, draw the conclusions, and write and record all of it.

    Args:
        study: the study.
        arms: its datasets with their ladders.
        scored: the scored ladders of all curves.
        encoded: the study as encoded by each model.
        tracking: where the runs go.
        directory: the run directory.
        report: shows the progress.
        quarantined: images that could not be used.

    Returns:
        trials.parquet, and the tables of stage 4.

    Raises:
        SemscaleError: a trial failed, also when repeated; MLflow does not take the results.
    """
    # everything that workers write under exists before the first worker starts
    runs = StudyRuns(study, directory.folder.name, scored, encoded, tracking, report.note)
    with report.stage("trials", len(places_of(scored)), "trials") as advance:
        trials = run_trials(scored, runs.context(), directory.path, advance, report.note)
    with report.stage("concluding", len(runs.run_ids), "curves") as advance:
        found = conclude_study(scored, arms, study.margin / 100, runs.run_ids)
        runs.finish_curves(trials, found, advance)
    with report.stage("writing tables and report"):
        artifacts = write_results(study, directory, trials, found, scored, encoded)
        runs.finish(trials, found, quarantined, {file: directory.written(file) for file in artifacts})
    return trials, found
