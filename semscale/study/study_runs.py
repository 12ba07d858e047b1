"""MLflow runs of a study and its curves: started before the first trial, completed after the conclusions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from semscale.common.progress import ProgressReporter
from semscale.common.redact import mask_url
from semscale.common.text import slug
from semscale.config import StudyConfig
from semscale.report.figures import CurveLine, confusion_png, curves_png
from semscale.report.headlines import Headline, headline, rows_of
from semscale.store.mirrored_directory import MirroredDirectory
from semscale.study.arms import Arm
from semscale.study.conclusion_stage import Conclusions
from semscale.study.encoding_stage import EncodedArm, EncodedModel
from semscale.study.run_directory import RunDirectory
from semscale.study.scoring_stage import CurveKey, ScoredLadder, curve_path_parts
from semscale.study.trial_evaluation import EvaluatedTrial
from semscale.tracking.descriptions import describe_study
from semscale.tracking.idempotent_runs import DatasetUsed, RunContent, delete_duplicate_runs, find_runs, is_finished
from semscale.tracking.retry import RetryPolicy
from semscale.tracking.run_contents import (
    CurveRecord,
    TrialRecord,
    finish_curve_run,
    finish_study_run,
    start_curve_run,
    start_study_run,
)
from semscale.tracking.tracking_store import TrackingStore


@dataclass(frozen=True)
class StudyContext:
    """Context of a running study: its arms, the embedding store, the destinations of results, and the progress."""

    study: StudyConfig
    arms: Sequence[Arm]
    store: MirroredDirectory
    directory: RunDirectory
    report: ProgressReporter
    tracking: TrackingStore


@dataclass(frozen=True)
class CurveRun:
    """The MLflow run of a curve, with its id, key, title and ladder of the first order."""

    run: Any
    run_id: str
    key: str
    title: str
    ladder: ScoredLadder


class StudyRuns:
    """Runs of a study and its curves, found or created; `earlier_trials` maps keys to trial runs of earlier sweeps."""

    def __init__(self, context: StudyContext, scored: Sequence[ScoredLadder], encoded: Sequence[EncodedModel]) -> None:
        self._study, self._encoded = context.study, encoded
        self.name, self.tracking, self._report = context.directory.folder.name, context.tracking, context.report
        self._client, self._retry = self.tracking.client(), RetryPolicy(self.tracking.uri, context.report.note)
        # models differ in a dataset only where they cannot use the same images
        self._datasets = {
            (arm.arm.dataset.name, model.identity.model): _dataset_used(arm, config.spec)
            for model in encoded
            for arm, config in zip(model.arms, self._study.datasets, strict=True)
        }
        self._key = _study_key(self.name, self._study, scored)
        self._run = self._retry.call(start_study_run, self._client, self.tracking, self._key, self.name)
        self.curves: dict[CurveKey, CurveRun] = {}
        for ladder in scored:
            if ladder.curve not in self.curves:
                self.curves[ladder.curve] = self._start_curve(ladder)
        where = self._client, self.tracking.experiment_id
        self.earlier_trials: Mapping[str, Any] = self._retry.call(find_runs, *where, kind="trial", study=self.name)

    def _start_curve(self, ladder: ScoredLadder) -> CurveRun:
        key = f"{self._key}/{slug(*curve_path_parts(self._study, ladder.curve))}"
        model = f" / {ladder.model}" if len(self._study.models) > 1 else ""
        aggregation = f" / {ladder.aggregation}" if len(self._study.aggregations) > 1 else ""
        title = f"{ladder.ladder.dataset}{model} / {ladder.ladder.strategy}{aggregation}"
        dataset = self._datasets.get((ladder.ladder.dataset, ladder.model))
        run = self._retry.call(start_curve_run, self._client, self._run, key, title, ladder.columns, dataset)
        return CurveRun(run, str(run.info.run_id), key, title, ladder)

    def trial_key(self, scored: ScoredLadder, k: int) -> str:
        """Return the MLflow key of the trial of step k."""
        return f"{self.curves[scored.curve].key}/o={scored.ladder.order}/s={scored.flat.scales[k]}"

    def recorded(self, scored: ScoredLadder, k: int) -> str | None:
        """Return the run id of step k's trial if an earlier sweep completed it."""
        run = self.earlier_trials.get(self.trial_key(scored, k))
        return str(run.info.run_id) if run is not None and is_finished(run) else None

    def trial_record(self, scored: ScoredLadder, trial: EvaluatedTrial) -> TrialRecord:
        """Return the content of an evaluated trial's run."""
        curve, key = self.curves[scored.curve], self.trial_key(scored, trial.k)
        order = f" / o={scored.ladder.order}" if scored.ladder.order else ""
        name = f"{curve.title}{order} / s={trial.row['scale']:02d}"  # names sort by order and scale
        dataset = self._datasets.get((scored.ladder.dataset, scored.model))
        return TrialRecord(key, curve.run_id, name, trial.row, trial.class_accuracy, trial.files, dataset)

    def finish_curves(
        self, trials: pd.DataFrame, conclusions: Conclusions, advance: Callable[[int, int], None]
    ) -> None:
        """Complete the runs of the curves from trials.parquet and the conclusions; `advance` gets (done, total)."""
        rows = conclusions.curves.to_dict("records")
        for done, (row, curve) in enumerate(zip(rows, self.curves.values(), strict=True), 1):
            tables = rows_of(trials, row), rows_of(conclusions.steps, row)
            draw = partial(_curve_pictures, curve, row, tables[1])
            pictures = partial(self._draw, f"pictures of {curve.title}", draw)
            record = CurveRecord(row, *tables, _headline(row, conclusions), pictures)
            self._retry.call(finish_curve_run, self._client, curve.run, record)
            advance(done, len(self.curves))

    def finish(
        self, trials: pd.DataFrame, conclusions: Conclusions, quarantined: int, files: Mapping[str, bytes]
    ) -> None:
        """Complete the run of the study, and delete runs that a fault of MLflow has duplicated."""
        rows = conclusions.curves.to_dict("records")
        headlines = [_headline(row, conclusions) for row in rows if row["role"] != "control"]
        # a finished run has equal pictures already
        draw = partial(_study_pictures, conclusions)
        pictures = {} if is_finished(self._run) else self._draw("pictures of the study", draw)
        totals = {"trials": len(trials), "curves": len(rows), "quarantined": quarantined}
        content = RunContent(
            params=_params(self._study, conclusions.curves, self._encoded),
            metrics={(name, 0): value for name, value in totals.items()},
            files={**files, **pictures},
            tags={MLFLOW_RUN_NOTE: describe_study(headlines, self.name, len(trials), len(rows))},
        )
        datasets = list({(used.name, used.digest): used for used in self._datasets.values()}.values())
        self._retry.call(finish_study_run, self._client, self._run, content, datasets)
        if self._retry.repeated:
            curves = {curve.key: curve.run_id for curve in self.curves.values()}
            where = self._client, self.tracking.experiment_id
            for kind, kept in (("curve", curves), ("study", {self._key: self._run.info.run_id})):
                self._retry.call(delete_duplicate_runs, *where, kept, kind=kind, study=self.name)

    def _draw(self, title: str, draw: Callable[[], dict[str, bytes]]) -> dict[str, bytes]:
        with self._report.optional(title):
            return draw()
        return {}


def _study_key(name: str, study: StudyConfig, scored: Sequence[ScoredLadder]) -> str:
    """Return the key of the study run: its name, settings and predictions, so that other results get other runs."""
    predictions = hashlib.sha256("".join(ladder.digest() for ladder in scored).encode()).hexdigest()[:12]
    return f"{name}/{study.digest()}/{predictions}"


def _headline(row: Mapping[Any, Any], conclusions: Conclusions) -> Headline:
    return headline(row, conclusions.steps, conclusions.controls, several=conclusions.curves["model"].nunique() > 1)


def _curve_pictures(curve: CurveRun, row: Mapping[Any, Any], steps: pd.DataFrame) -> dict[str, bytes]:
    """Return figures of the curve and of the first order's confusions at scale 1, the peak and the last scale."""
    scored, peak_scale = curve.ladder, int(row["peak_scale"])
    line = CurveLine.of(str(row["strategy"]), steps)
    pictures = {"curve.png": curves_png([line], f"{row['dataset']}, {row['model']}")}
    for k, scale in enumerate(scored.flat.scales):
        if k == 0 or scale in (peak_scale, scored.flat.scales[-1]):
            title = f"{curve.title} / s={scale:02d}: {100 * scored.right[:, k].mean():.1f} %"
            labels = scored.true_class, scored.scores.predicted_class[:, k]
            pictures[f"confusion-{scale:02d}.png"] = confusion_png(*labels, scored.ladder.classes, title)
    return pictures


def _study_pictures(conclusions: Conclusions) -> dict[str, bytes]:
    """Return a figure per dataset, model and aggregation with all curves, controls in grey."""
    columns = ["dataset", "model", "aggregation"]
    several = [name for name in columns if name == "dataset" or conclusions.curves[name].nunique() > 1]
    pictures = {}
    for _, curves in conclusions.curves.groupby(columns, sort=False):
        lines = []
        for row in curves.to_dict("records"):
            steps, control = rows_of(conclusions.steps, row), row["role"] == "control"
            lines.append(CurveLine.of(row["strategy"], steps, control=control))
        title = [str(curves[name].iloc[0]) for name in several]
        pictures[f"curves-{slug(*title)}.png"] = curves_png(lines, ", ".join(title))
    return pictures


def _params(study: StudyConfig, curves: pd.DataFrame, encoded: Sequence[EncodedModel]) -> dict[str, Any]:
    return {
        "datasets": ", ".join(dict.fromkeys(curves["dataset"])),
        "models": ", ".join(study.models),
        "strategies": ", ".join(entry.label for entry in study.strategies),
        "controls": ", ".join(study.controls),
        "aggregation": ", ".join(study.aggregations),
        **{name: getattr(study, name) for name in ("steps", "scales", "orders", "limit", "margin")},
        "encoders": ", ".join(dict.fromkeys(model.identity.fingerprint for model in encoded)),
    }


def _dataset_used(arm: EncodedArm, spec: str) -> DatasetUsed:
    dataset = arm.arm.dataset
    samples = dataset.samples.pick(arm.images.positions)
    sha = hashlib.sha256()
    for names in (dataset.classes, samples.files()):
        sha.update("\0".join([str(len(names)), *names]).encode("utf-8", "surrogateescape"))
    sha.update(np.ascontiguousarray(samples.class_index, dtype="<i4").tobytes())
    sha.update(np.ascontiguousarray(arm.images.keys).tobytes())  # SHA-256 of each image file
    scheme, colon, _ = spec.partition(":")
    return DatasetUsed(
        name=dataset.name,
        digest=sha.hexdigest(),
        source_type=scheme if colon else "bundled",
        source=mask_url(spec),
        n_images=len(samples),
        n_classes=len(dataset.classes),
    )
