"""A study in MLflow: its run and those of its curves, there before the first trial, filled after the conclusions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from semscale.config import StudyConfig
from semscale.redact import shown
from semscale.report.answers import Answer, answer
from semscale.report.figures import CurveLine, curves_png
from semscale.study.conclude import Conclusions
from semscale.study.encode import EncodedArm, EncodedModel
from semscale.study.rundir import CURVE_KEY, slug
from semscale.study.score import CurveKey, ScoredLadder, named
from semscale.study.trials import TrialContext
from semscale.tracking.descriptions import describe_study
from semscale.tracking.inputs import DatasetUsed
from semscale.tracking.patience import Note, Patience
from semscale.tracking.records import (
    delete_double_runs,
    finish_curve_run,
    finish_study_run,
    known_trials,
    start_curve_run,
    start_study_run,
)
from semscale.tracking.runs import is_finished
from semscale.tracking.store import TrackingStore


class StudyRuns:
    """The runs of a study and of its curves, made or found.

    Args:
        study: the study.
        name: of its run: that of the run directory.
        scored: the scored ladders of all curves.
        encoded: the study as encoded by each model.
        tracking: where the runs go.
        note: says that MLflow is waited for.

    Attributes:
        run_ids: MLflow run id by curve.

    Raises:
        SemscaleError: MLflow does not take them.
    """

    def __init__(
        self,
        study: StudyConfig,
        name: str,
        scored: Sequence[ScoredLadder],
        encoded: Sequence[EncodedModel],
        tracking: TrackingStore,
        note: Note,
    ) -> None:
        self._study, self._name, self._encoded, self._tracking = study, name, encoded, tracking
        self._client, self._patience = tracking.client(), Patience(tracking.uri, note)
        self._datasets = _datasets_used(study, encoded)
        self._key = study_key(name, study, scored)
        start = (self._client, tracking)
        self._run = self._patience.call(start_study_run, *start, self._key, name)
        self._curves: dict[CurveKey, Any] = {}
        self._places: dict[CurveKey, tuple[str, str, str]] = {}
        for ladder in scored:
            if ladder.curve not in self._curves:
                key = f"{self._key}/{slug(*named(study, ladder.curve))}"
                model = f" / {ladder.model}" if len(study.models) > 1 else ""
                aggregation = f" / {ladder.aggregation}" if len(study.aggregations) > 1 else ""
                title = f"{ladder.dataset}{model} / {ladder.strategy}{aggregation}"
                dataset = self._datasets.get((ladder.dataset, ladder.model))
                what = (key, self._run, ladder.columns, title, dataset)
                run = self._patience.call(start_curve_run, *start, *what)
                self._curves[ladder.curve] = run
                self._places[ladder.curve] = (run.info.run_id, key, title)
        self.run_ids = {curve: str(run.info.run_id) for curve, run in self._curves.items()}

    def context(self) -> TrialContext:
        """Return where the trials are recorded, with what an earlier sweep has recorded of them."""
        return TrialContext(
            curve_runs=self._places,
            tracking=self._tracking,
            study_name=self._name,
            known=self._patience.call(known_trials, self._client, self._tracking, self._name),
            datasets=self._datasets,
        )

    def finish_curves(self, trials: pd.DataFrame, found: Conclusions, advance: Callable[[int, int], None]) -> None:
        """Fill the runs of the curves.

        Args:
            trials: trials.parquet.
            found: the conclusions.
            advance: is told how many are done.
        """
        for done, (curve, run) in enumerate(self._curves.items(), start=1):
            (row,) = _rows(found.curves, curve).to_dict("records")
            tables = _rows(trials, curve), _rows(found.steps, curve)
            said = _answer(row, found)
            self._patience.call(finish_curve_run, self._client, run, row, *tables, said)
            advance(done, len(self._curves))

    def finish(self, trials: pd.DataFrame, found: Conclusions, quarantined: int, files: Mapping[str, bytes]) -> None:
        """Fill the run of the study, and delete what a fault of MLflow has doubled.

        Args:
            trials: trials.parquet.
            found: the conclusions.
            quarantined: images that could not be used.
            files: of the run directory.
        """
        rows = found.curves.to_dict("records")
        answers = [_answer(row, found) for row in rows if row["role"] != "control"]
        # what a finished run has, and nothing else would come out, need not be drawn again
        pictures = {} if is_finished(self._run) else _pictures(found)
        self._patience.call(
            finish_study_run,
            self._client,
            self._run,
            params=_params(self._study, found.curves, self._encoded),
            metrics={"trials": len(trials), "curves": len(rows), "quarantined": quarantined},
            files={**files, **pictures},
            description=describe_study(answers, self._name, len(trials), len(rows)),
            datasets=_distinct(self._datasets),
        )
        if self._patience.repeated:
            curves = {key: run_id for run_id, key, _ in self._places.values()}
            for kind, kept in (("curve", curves), ("study", {self._key: self._run.info.run_id})):
                self._patience.call(delete_double_runs, self._client, self._tracking, self._name, kind, kept)


def study_key(name: str, study: StudyConfig, scored: Sequence[ScoredLadder]) -> str:
    """Name the study run by its directory, its settings and its predictions: other results get other runs."""
    predictions = hashlib.sha256("".join(ladder.digest() for ladder in scored).encode()).hexdigest()[:12]
    return f"{name}/{study.digest()}/{predictions}"


def _rows(table: pd.DataFrame, curve: CurveKey) -> pd.DataFrame:
    return table[(table[list(CURVE_KEY)] == list(curve)).all(axis=1)]


def _answer(row: Mapping[Any, Any], found: Conclusions) -> Answer:
    return answer(row, found.steps, found.controls, several=found.curves["model"].nunique() > 1)


def _pictures(found: Conclusions) -> dict[str, bytes]:
    """Return the curves of each dataset, model and aggregation in a picture, controls in grey."""
    pictures = {}
    for place, curves in found.curves.groupby(["dataset", "model", "aggregation"], sort=False):
        lines = []
        for row in curves.to_dict("records"):
            steps = _rows(found.steps, tuple(row[name] for name in CURVE_KEY))
            values = (steps[name] for name in ("accuracy", "band_low", "band_high"))
            control = row["role"] == "control"
            lines.append(CurveLine(row["strategy"], steps["scale"].tolist(), *values, control=control))
        shown = [
            str(name)
            for name, column in zip(place, ("dataset", "model", "aggregation"), strict=True)
            if column == "dataset" or found.curves[column].nunique() > 1
        ]
        pictures[f"curves-{slug(*shown)}.png"] = curves_png(lines, ", ".join(shown))
    return pictures


def _params(study: StudyConfig, curves: pd.DataFrame, encoded: Sequence[EncodedModel]) -> dict[str, Any]:
    return {
        "datasets": ", ".join(dict.fromkeys(curves["dataset"])),
        "models": ", ".join(study.models),
        "strategies": ", ".join(entry.label for entry in study.strategies),
        "controls": ", ".join(study.controls),
        "aggregation": ", ".join(study.aggregations),
        **{name: getattr(study, name) for name in ("steps", "scales", "orders", "limit", "margin")},
        "encoders": ", ".join(dict.fromkeys(one.identity.fingerprint for one in encoded)),
    }


def _datasets_used(study: StudyConfig, encoded: Sequence[EncodedModel]) -> dict[tuple[str, str], DatasetUsed]:
    """Return the datasets by name and model; models differ in one only where they cannot use the same images."""
    specs = [config.spec for config in study.datasets]
    return {
        (arm.arm.dataset.name, one.identity.model): _used(arm, spec)
        for one in encoded
        for arm, spec in zip(one.arms, specs, strict=True)
    }


def _distinct(datasets: Mapping[tuple[str, str], DatasetUsed]) -> list[DatasetUsed]:
    """Return each dataset once."""
    return list({(one.name, one.digest): one for one in datasets.values()}.values())


def _used(arm: EncodedArm, spec: str) -> DatasetUsed:
    dataset = arm.arm.dataset
    samples = dataset.samples.pick(arm.images.positions)
    scheme, colon, _ = spec.partition(":")
    return DatasetUsed(
        name=dataset.name,
        digest=_digest(samples.files(), dataset.classes, samples.class_index, arm.images.keys),
        source_type=scheme if colon else "bundled",
        source=shown(spec),
        n_images=len(samples),
        n_classes=len(dataset.classes),
    )


def _digest(files: Sequence[str], classes: Sequence[str], class_index: np.ndarray, keys: np.ndarray) -> str:
    sha = hashlib.sha256()
    for names in (classes, files):
        sha.update("\0".join([str(len(names)), *names]).encode("utf-8", "surrogateescape"))
    sha.update(np.ascontiguousarray(class_index, dtype="<i4").tobytes())
    sha.update(np.ascontiguousarray(keys).tobytes())  # SHA-256 of each image file
    return sha.hexdigest()
