"""A finished run directory, local or in an object store: its study, its tables, and which images are correct."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from semscale.categories.files import read_ladder
from semscale.categories.ladder import Ladder
from semscale.config import StudyConfig, load_study
from semscale.encoding.folder import Folder
from semscale.errors import SemscaleError, summarize
from semscale.runs.correctness import Bool, correct_predictions
from semscale.study.rundir import CURVE_KEY, study_file
from semscale.text import slug

# what a comparison reads of each table
_COLUMNS = {
    "trials": (*CURVE_KEY, "order", "scale", "n_correct"),
    "curves": (
        *CURVE_KEY, "role", "n_images", "n_orders", "baseline", "peak", "peak_scale", "peak_change", "critical_scale",
        "critical_low", "critical_high", "trend",
    ),
    "steps": (*CURVE_KEY, "scale", "accuracy", "ci_low", "ci_high", "change_band_low", "change_band_high"),
}  # fmt: skip


@dataclass(frozen=True)
class FinishedRun:
    """Results of a study: directory, study as resolved, environment.json (empty without one) and tables.

    `letter` (A, B, ...) is the name of the run in a comparison.
    """

    letter: str
    folder: Folder
    study: StudyConfig
    environment: dict[str, Any]
    trials: pd.DataFrame
    curves: pd.DataFrame
    steps: pd.DataFrame


@dataclass(frozen=True)
class CurveAnswers:
    """The answers of a curve, for n images in an order that depends on nothing but their names and classes.

    Attributes:
        images: (file, true class) of each image, sorted.
        correct: bool[O, n, S], for O orders and S scales.
        scales: the S scales, rising.
        ladder: the category sets, of the first order.
    """

    images: list[tuple[str, str]]
    correct: Bool
    scales: list[int]
    ladder: Ladder

    @property
    def digest(self) -> str:
        """12 hex digits over the file names and true classes of the images."""
        lines = "\n".join(f"{file}\t{name}" for file, name in self.images)
        return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()[:12]

    def at(self, *scales: int) -> Bool:
        """Return the answers at these scales only."""
        return self.correct[:, :, [self.scales.index(scale) for scale in scales]]

    def common_images(self, other: CurveAnswers) -> int:
        """Return how many images both have."""
        return (Counter(self.images) & Counter(other.images)).total()


def read_run(where: str, letter: str) -> FinishedRun:
    """Read a run directory.

    Args:
        where: the directory, also in an object store.
        letter: what to call it.

    Raises:
        SemscaleError: not a run directory, an unfinished run, or tables that cannot be read or are of another format.
    """
    marker = study_file(where)
    folder = Folder.of(where)
    for name in (*(f"{name}.parquet" for name in _COLUMNS), "environment.json"):
        folder.pull_again(name)  # a copy may be of before the last sweep
    missing = [name for name in _COLUMNS if not (folder.local / f"{name}.parquet").is_file()]
    if missing:
        raise SemscaleError(
            "the run is not finished",
            where=str(folder),
            found="no " + ", ".join(f"{name}.parquet" for name in missing),
            hint=f"semscale sweep --resume {where}",
        )
    study = load_study(marker)
    tables = {name: _table(folder, name) for name in _COLUMNS}
    return FinishedRun(letter, folder, study, _environment(folder), **tables)


def _read_parquet(folder: Folder, name: str) -> pd.DataFrame:
    try:
        return pd.read_parquet(folder.local / name)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SemscaleError(
            "a table of the run cannot be read",
            where=f"{folder}/{name}",
            found=summarize(error),
            hint=f"remove it and give: semscale sweep --resume {folder}",
        ) from error


def _table(folder: Folder, name: str) -> pd.DataFrame:
    table = _read_parquet(folder, f"{name}.parquet")
    lacking = [column for column in _COLUMNS[name] if column not in table]
    if lacking:
        raise SemscaleError(
            "a table of the run is of another format",
            where=f"{folder}/{name}.parquet",
            found=f"no column {', '.join(lacking)}",
            hint="run the study again with this version of semscale; what is encoded stays in the store",
        )
    return table


def _environment(folder: Folder) -> dict[str, Any]:
    path = folder.local / "environment.json"
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SemscaleError("environment.json cannot be read", where=str(folder), found=str(error)) from error
    return dict(found) if isinstance(found, dict) else {}


def read_answers(run: FinishedRun, curve: dict[Any, Any]) -> CurveAnswers:
    """Read the answers of a curve, a row of curves.parquet; files in an object store are copied here.

    Raises:
        SemscaleError: predictions or ladders are missing or cannot be read, orders differ in images, or the
            predictions do not give the accuracies of the run's tables.
    """
    trials = run.trials[(run.trials[list(CURVE_KEY)] == [curve[name] for name in CURVE_KEY]).all(axis=1)]
    images: list[tuple[str, str]] = []
    marks: list[Bool] = []
    ladders: list[Ladder] = []
    for order, mine in trials.groupby("order", sort=True):
        ladder, table = _predictions(run, curve, int(str(order)))
        found = list(zip(table["file"], table["true_class"], strict=True))
        classes = {name: index for index, name in enumerate(ladder.classes)}
        flat = ladder.flatten()
        owners = dict(zip(flat.texts, flat.class_index.tolist(), strict=True))
        predicted = [table[str(step.n_categories)] for step in ladder.steps]
        correct = np.column_stack(
            [correct_predictions(table["true_class"], texts, classes, owners)[0] for texts in predicted]
        )
        counted = dict(zip(mine["scale"].tolist(), mine["n_correct"].tolist(), strict=True))
        ours = dict(zip(ladder.scales, correct.sum(axis=0).tolist(), strict=True))
        if counted != ours or (images and found != images):
            raise SemscaleError(
                "the predictions of the run do not fit its tables",
                where=f"{run.folder}: {' / '.join(str(curve[name]) for name in CURVE_KEY)}, order {order}",
                found="other images than in the first order" if counted == ours else "other counts of right images",
                hint=f"give: semscale sweep --resume {run.folder}",
            )
        images = found
        marks.append(correct)
        ladders.append(ladder)
    return CurveAnswers(images, np.stack(marks), ladders[0].scales, ladders[0])


def _predictions(run: FinishedRun, curve: dict[Any, Any], order: int) -> tuple[Ladder, pd.DataFrame]:
    """Return the ladder of one order and its predictions, sorted by file and class."""
    beside = (curve["aggregation"],) if len(run.study.aggregations) > 1 else ()
    ladder_file = f"ladders/{slug(curve['dataset'], curve['strategy'], order)}.json"
    parts = (curve["dataset"], curve["model"], curve["strategy"], order, *beside)
    predictions = f"predictions/{slug(*parts)}.parquet"
    for name in (ladder_file, predictions):
        run.folder.pull_again(name)
        if not (run.folder.local / name).is_file():
            raise SemscaleError(
                "a file of the run is missing",
                where=f"{run.folder}/{name}",
                hint=f"give: semscale sweep --resume {run.folder}",
            )
    ladder, table = read_ladder(run.folder.local / ladder_file), _read_parquet(run.folder, predictions)
    lacking = {"file", "true_class", *(str(step.n_categories) for step in ladder.steps)} - set(table.columns)
    if lacking:
        raise SemscaleError(
            "the predictions of the run are of another format",
            where=f"{run.folder}/{predictions}",
            found=f"no column {', '.join(sorted(lacking))}",
        )
    return ladder, table.sort_values(["file", "true_class"], kind="stable")
