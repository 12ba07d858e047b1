"""The study pipeline: encode, score, run the trials, conclude; results in files and in MLflow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd

from semscale.cluster.watch import run_on_ray
from semscale.common.errors import SemscaleError
from semscale.common.progress import ProgressReporter
from semscale.common.text import counted, slug
from semscale.config import StudyConfig
from semscale.encoding.backends import open_encoder
from semscale.store.embedding_store import LostRowsError
from semscale.store.mirrored_directory import MirroredDirectory, store_directory
from semscale.study.arms import Arm, make_arms, write_ladders
from semscale.study.conclusion_stage import Conclusions, conclude_study
from semscale.study.encoding_stage import EncodedModel, EncodeResult, encode_model
from semscale.study.result_tables import write_results
from semscale.study.run_directory import RunDirectory, run_directory_for
from semscale.study.scoring_stage import (
    LadderKey,
    ScoredLadder,
    check_device,
    choose_placement,
    curve_path_parts,
    score_arm,
)
from semscale.study.study_runs import StudyContext, StudyRuns
from semscale.study.trial_evaluation import EvaluatedTrial, evaluate_trial
from semscale.tracking.recorder import Recorder
from semscale.tracking.tracking_store import open_store

# a disk that still damages what was just written cannot hold a store
_MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class SweepResult(EncodeResult):
    """The results of a sweep; counts and work are those of this run."""

    trials: pd.DataFrame  # a row per trial
    conclusions: Conclusions  # all tables of stage 4
    ui_command: str  # opens the runs in MLflow

    @property
    def curves(self) -> pd.DataFrame:
        """One row per curve."""
        return self.conclusions.curves

    @property
    def directory(self) -> Path:
        """The run directory on this machine."""
        return self.folder.local


def sweep(
    study: StudyConfig,
    out: Path | MirroredDirectory | None,
    report: ProgressReporter,
    arms: Sequence[Arm] | None = None,
    *,
    stored: bool = False,
) -> SweepResult:
    """Run a study from images to conclusions; the same call after an interruption completes it.

    The default of `out` is :func:`run_directory_for`; `arms` are built unless they are passed. With `stored` all
    embeddings must be in the store already, and no server is contacted or started.
    """
    out = run_directory_for(study, out)
    uri, artifacts = study.tracking.uri, study.tracking.artifacts
    if out.is_remote and uri is None:
        expected = "an MLflow server for the runs when the results go there"
        what, hint = "MLflow's database cannot be in an object store", "give --tracking-uri URI, or a local --out"
        raise SemscaleError(what, where=str(out), expected=expected, hint=hint)
    store = store_directory(study.store)
    # fails on any fault of the study before anything starts
    arms = make_arms(study, report) if arms is None else arms
    check_device(study.scoring.device, study.ray.address)
    with RunDirectory(out, study) as directory:
        # fails on a wrong address before Ray starts
        tracking = open_store(uri, study.tracking.experiment, out.local.parent, artifacts)
        context = StudyContext(study, arms, store, directory, report, tracking)
        write_ladders(arms, directory, report)

        def work() -> tuple[list[EncodedModel], pd.DataFrame, Conclusions]:
            choose_placement(study.scoring.device)  # fails if the cluster lacks the requested GPUs
            scored, encoded = _encode_and_score(context, stored)
            return encoded, *_run_trials_and_conclude(context, scored, encoded)

        encoded, trials, conclusions = run_on_ray(study.ray.address, store.shared_path, report, work)
        ui_command = tracking.ui_command(None if out.is_remote else directory.path)
        results = {"trials": trials, "conclusions": conclusions, "ui_command": ui_command}
        return SweepResult.of(directory, store, encoded, **results)


def _encode_and_score(context: StudyContext, stored: bool) -> tuple[list[ScoredLadder], list[EncodedModel]]:
    """Encode and score model by model, repeated if stored rows are damaged; returns all attempts at encoding."""
    study, report, logs = context.study, context.report, context.directory.path / "logs"
    scored: list[ScoredLadder] = []
    attempts: list[EncodedModel] = []
    for model in study.models:
        for failures in count(1):
            try:
                with open_encoder(study, model, context.store, report, logs, stored) as encoder:
                    attempts.append(encode_model(context.arms, encoder, context.directory, report))
                scored += _score_model(context, model, attempts[-1])
                break
            except LostRowsError as error:
                if failures == _MAX_ATTEMPTS:
                    raise
                report.note(f"{counted(error.n, 'rows of the store are')} damaged, set aside and encoded again")
    return scored, attempts


def _score_model(context: StudyContext, model: str, encoded: EncodedModel) -> list[ScoredLadder]:
    study = context.study
    scored: list[ScoredLadder] = []
    total = sum(len(arm.arm.ladders) for arm in encoded.arms)
    placement, counts = choose_placement(study.scoring.device), Counter[str]()
    with context.report.stage("scoring", total, "ladders") as advance:
        for arm in encoded.arms:
            for ladder in score_arm(arm, model, study.aggregations, placement, counts):
                name = slug(*curve_path_parts(study, ladder.key))
                context.directory.write_table(f"predictions/{name}.parquet", ladder.predictions())
                scored.append(ladder)
                advance(len(scored) // len(study.aggregations), total)
    if counts["scored"]:
        share, device = 100 * counts["rescored"] / counts["scored"], study.scoring.device
        context.report.note(f"scoring on {device}: {share:.1f} % of the images near a tie, decided in float64")
    return scored


def _run_trials(context: StudyContext, ladders: Sequence[ScoredLadder], runs: StudyRuns) -> pd.DataFrame:
    """Run the trials and return trials.parquet: a row per trial, by curve and rising scale.

    They are a Ray Tune grid (:mod:`semscale.study.trial_grid`), unless an earlier sweep has recorded all of them.
    """
    by_key: dict[LadderKey, ScoredLadder] = {scored.key: scored for scored in ladders}
    trials = [(scored.key, k) for scored in ladders for k in range(len(scored.flat.scales))]
    recorded = {trial: run_id for trial in trials if (run_id := runs.recorded(by_key[trial[0]], trial[1]))}
    rows: dict[tuple[LadderKey, int], dict[str, Any]] = {}
    done = count(1)
    with context.report.stage("trials", len(trials), "trials") as stage:

        def advance() -> None:
            stage(next(done), len(trials))

        def on_result(evaluated: EvaluatedTrial) -> None:
            trial = evaluated.ladder, evaluated.k
            if trial in rows:
                return  # repeated after its worker was lost
            rows[trial] = evaluated.row
            if trial in recorded:
                advance()
            else:
                recorder.put(runs.trial_record(by_key[evaluated.ladder], evaluated))

        with Recorder(runs.tracking, runs.name, runs.earlier_trials, advance, context.report.note) as recorder:
            if len(recorded) == len(trials):
                # without files all trials take less time here than workers take to start
                for key, k in trials:
                    on_result(evaluate_trial(by_key[key], k, with_files=False))
            else:
                from semscale.study.trial_grid import run_grid  # imports Ray Tune

                with_files = {trial: trial not in recorded for trial in trials}
                run_grid(ladders, with_files, context.directory.path, on_result)
        run_ids = recorder.run_ids()
    for (key, k), row in rows.items():
        row["mlflow_run_id"] = recorded.get((key, k)) or run_ids[runs.trial_key(by_key[key], k)]
    return pd.DataFrame([rows[trial] for trial in trials])


def _run_trials_and_conclude(
    context: StudyContext, scored: Sequence[ScoredLadder], encoded: Sequence[EncodedModel]
) -> tuple[pd.DataFrame, Conclusions]:
    """Run the trials and conclude; returns trials.parquet and the tables of stage 4."""
    study, directory, report = context.study, context.directory, context.report
    # the parent runs of the trials exist before the first worker starts
    runs = StudyRuns(context, scored, encoded)
    trials = _run_trials(context, scored, runs)
    with report.stage("concluding", len(runs.curves), "curves") as advance:
        run_ids = {key: curve.run_id for key, curve in runs.curves.items()}
        conclusions = conclude_study(scored, context.arms, study.margin / 100, run_ids)
        runs.finish_curves(trials, conclusions, advance)
    with report.stage("writing tables and report"):
        artifacts = write_results(directory, trials, conclusions, scored, encoded, report)
        files = {file: directory.push(file) for file in artifacts}
        runs.finish(trials, conclusions, directory.n_quarantined, files)
    return trials, conclusions
