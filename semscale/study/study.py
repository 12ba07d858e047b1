"""The study run: arms, encode, score, trials, conclude; and what remains of it in files and in MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from semscale.config import StudyConfig
from semscale.encoding.folder import Folder, embedding_store
from semscale.encoding.image_outcomes import TooManyBadImagesError
from semscale.encoding.store import LostRowsError
from semscale.errors import SemscaleError
from semscale.study.arms import Arm, make_arms, write_ladders
from semscale.study.backends import open_encoder
from semscale.study.cluster import connect
from semscale.study.conclude import Conclusions, conclude_study
from semscale.study.encode import EncodedModel, encode_model, write_work
from semscale.study.place import check_device, scoring_place
from semscale.study.progress import Reporter
from semscale.study.results import write_results
from semscale.study.rundir import RunDirectory, out_of, slug
from semscale.study.score import ScoredLadder, Tally, named, score_arm
from semscale.study.study_runs import StudyRuns
from semscale.study.trials import places_of, run_trials
from semscale.tracking.store import TrackingStore, open_store

# a disk that damages what was just written is no place for a store
_MOST_ATTEMPTS = 3


@dataclass(frozen=True)
class SweepResult:
    """What a sweep leaves behind.

    Attributes:
        folder: the run directory.
        trials: one row per trial.
        curves: one row per curve.
        conclusions: all tables of stage 4, the curves among them.
        images_sent: images that went to the servers on this occasion; 0 when all were in the store.
        texts_sent: texts likewise.
        quarantined: images that could not be used.
        ui_command: the line that opens the runs in MLflow.
        work: a row per endpoint, node and actor that encoded something on this occasion.
    """

    folder: Folder
    trials: pd.DataFrame
    curves: pd.DataFrame
    conclusions: Conclusions
    images_sent: int
    texts_sent: int
    quarantined: int
    ui_command: str
    work: pd.DataFrame

    @property
    def directory(self) -> Path:
        """The run directory on this machine."""
        return self.folder.local


def sweep(
    study: StudyConfig,
    out: Path | Folder | None,
    report: Reporter,
    arms: Sequence[Arm] | None = None,
    *,
    stored: bool = False,
) -> SweepResult:
    """Carry a study out from beginning to end.

    Whatever an earlier attempt finished is found again: embeddings in the store, runs in MLflow by their key, files
    by their names. So the same call after an interruption completes the study.

    Args:
        study: the validated study.
        out: run directory; :func:`out_of` says which unless given.
        report: shows the progress.
        arms: of :func:`semscale.study.arms.make_arms`; made here unless given.
        stored: everything must be in the store already; no server is asked or started.

    Raises:
        SemscaleError: for anything that the user can mend.
    """
    out = out_of(study, out)
    if out.is_remote and study.tracking.uri is None:
        raise SemscaleError(
            "MLflow's database cannot lie in an object store",
            where=str(out),
            expected="an MLflow server for the runs when the results go there",
            hint="give --tracking-uri URI, or an --out on this machine",
        )
    store = embedding_store(study.store)
    # everything that can be wrong with the study shows here, before anything is started
    arms = make_arms(study, report) if arms is None else arms
    check_device(study.scoring.device, study.ray.address)
    with RunDirectory(out, study) as directory, ExitStack() as stack:
        # a wrong address shows before Ray starts
        uri, artifacts = study.tracking.uri, study.tracking.artifacts
        tracking = open_store(uri, study.tracking.experiment, out.local.parent, artifacts)
        write_ladders(arms, directory, report)
        connect(study, store, report, stack)
        scoring_place(study.scoring.device)  # a cluster without the GPUs that are asked for is refused at once
        scored, encoded = _encode_and_score(study, arms, store, directory, report, stored)
        # an image that no model could use is one image
        quarantined = len({row[:2] for one in encoded for row in one.quarantine()})
        trials, found = _try_and_conclude(study, arms, scored, encoded, tracking, directory, report, quarantined)
        return SweepResult(
            folder=directory.folder,
            trials=trials,
            curves=found.curves,
            conclusions=found,
            images_sent=sum(one.images_sent for one in encoded),
            texts_sent=sum(one.texts_sent for one in encoded),
            quarantined=quarantined,
            ui_command=tracking.ui_command(None if directory.folder.is_remote else directory.path),
            work=write_work(directory, encoded),
        )


def _encode_and_score(
    study: StudyConfig, arms: Sequence[Arm], store: Folder, directory: RunDirectory, report: Reporter, stored: bool
) -> tuple[list[ScoredLadder], list[EncodedModel]]:
    scored: list[ScoredLadder] = []
    encoded: list[EncodedModel] = []
    quarantine: list[tuple[str, str, str]] = []
    for model in study.models:
        try:
            ladders, parts = _encode_and_score_model(study, model, arms, store, directory, report, stored)
        except TooManyBadImagesError as error:
            directory.write_quarantine([*quarantine, *error.rows()])
            raise
        scored += ladders
        encoded += parts
        quarantine += parts[-1].quarantine()
        directory.write_quarantine(quarantine)
    return scored, encoded


def _encode_and_score_model(
    study: StudyConfig,
    model: str,
    arms: Sequence[Arm],
    store: Folder,
    directory: RunDirectory,
    report: Reporter,
    stored: bool,
) -> tuple[list[ScoredLadder], list[EncodedModel]]:
    """Bring what a model says into the store and score it, again when stored rows turn out to be damaged."""
    attempts: list[EncodedModel] = []
    for left in range(_MOST_ATTEMPTS - 1, -1, -1):
        try:
            with open_encoder(study, model, store, report, directory.path / "logs", stored) as encoder:
                attempts.append(encode_model(study, arms, encoder, report))
            return _score_model(study, model, attempts[-1], directory, report), attempts
        except LostRowsError as error:
            if not left:
                raise
            report.note(f"{error.n} rows of the store are damaged; they are set aside and encoded again")
    raise AssertionError("the last attempt returns or raises")


def _score_model(
    study: StudyConfig, model: str, encoded: EncodedModel, directory: RunDirectory, report: Reporter
) -> list[ScoredLadder]:
    scored: list[ScoredLadder] = []
    total = sum(len(arm.arm.ladders) for arm in encoded.arms)
    place, tally = scoring_place(study.scoring.device), Tally()
    with report.stage("scoring", total, "ladders") as advance:
        for arm in encoded.arms:
            for ladder in score_arm(arm, model, study.aggregations, place, tally):
                directory.write_table(f"predictions/{slug(*named(study, ladder.key))}.parquet", ladder.predictions())
                scored.append(ladder)
                advance(len(scored) // len(study.aggregations), total)
    if tally.on_device:
        share = 100 * tally.again / tally.on_device
        report.note(f"scoring on {study.scoring.device}: {share:.1f} % of the images near a tie, decided in float64")
    return scored


def _try_and_conclude(
    study: StudyConfig,
    arms: Sequence[Arm],
    scored: Sequence[ScoredLadder],
    encoded: Sequence[EncodedModel],
    tracking: TrackingStore,
    directory: RunDirectory,
    report: Reporter,
    quarantined: int,
) -> tuple[pd.DataFrame, Conclusions]:
    """Run the trials and draw the conclusions; returns trials.parquet and the tables of stage 4."""
    # everything that workers write under exists before the first worker starts
    runs = StudyRuns(study, directory.folder.name, scored, encoded, tracking, report.note)
    with report.stage("trials", len(places_of(scored)), "trials") as advance:
        trials = run_trials(scored, runs.context(), directory.path, advance, report.note)
    with report.stage("concluding", len(runs.run_ids), "curves") as advance:
        conclusions = conclude_study(scored, arms, study.margin / 100, runs.run_ids)
        runs.finish_curves(trials, conclusions, advance)
    with report.stage("writing tables and report"):
        artifacts = write_results(study, directory, trials, conclusions, scored, encoded)
        runs.finish(trials, conclusions, quarantined, {file: directory.written(file) for file in artifacts})
    return trials, conclusions
