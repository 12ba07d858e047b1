"""Finished run directory, local or in an object store: its study, its tables, and which images are correct."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from semscale.categories.ladder import Ladder
from semscale.categories.ladder_files import read_ladder
from semscale.common.errors import SemscaleError
from semscale.common.text import slug
from semscale.config import StudyConfig
from semscale.report.headlines import CURVE, rows_of
from semscale.store.mirrored_directory import MirroredDirectory
from semscale.study.run_directory import finished_run, read_environment, read_table

Bool = npt.NDArray[np.bool_]
Owners = Mapping[str, int]
"""Class index by category text."""

CURVE_COLUMNS = (
    *CURVE, "role", "n_images", "n_orders", "baseline", "peak", "peak_scale", "peak_change", "critical_scale",
    "critical_low", "critical_high", "trend",
)  # fmt: skip
# what a comparison reads of each table
_COLUMNS = {
    "trials": (*CURVE, "order", "scale", "n_correct"),
    "curves": CURVE_COLUMNS,
    "steps": (*CURVE, "scale", "accuracy", "ci_low", "ci_high", "change_band_low", "change_band_high"),
}


@dataclass(frozen=True)
class FinishedRun:
    """Results of a study: its letter in a comparison, directory, study as resolved, environment.json and tables."""

    letter: str
    folder: MirroredDirectory
    study: StudyConfig
    environment: dict[str, Any]
    trials: pd.DataFrame
    curves: pd.DataFrame
    steps: pd.DataFrame


@dataclass(frozen=True)
class CurveAnswers:
    """Correctness bool[O, n, S] for O orders, n sorted images (file, true class) and S rising scales.

    The ladder is that of the first order.
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


def correct_predictions(
    true_class: pd.Series[str],
    predicted: pd.Series[str],
    classes: Owners,
    owners: Owners,
    key: Callable[[str], str] = str,
) -> tuple[Bool, dict[str, int]]:
    """Return which predicted texts belong to their true class, bool[n], and the rows of each text not offered.

    `classes` and `owners` are class indices by the `key` of a class name or a category text.
    """
    true, _ = _look_up(true_class, classes, key, absent=-2)
    found, unknown = _look_up(predicted, owners, key, absent=-1)
    return found == true, unknown


def _look_up(
    column: pd.Series[str], known: Owners, key: Callable[[str], str], absent: int
) -> tuple[npt.NDArray[np.int64], dict[str, int]]:
    # every distinct text is looked up once: there are tens of thousands of rows and some hundred texts
    codes, texts = pd.factorize(column)
    indices = np.array([*(known.get(key(str(text)), absent) for text in texts), absent], dtype=np.int64)
    rows = np.bincount(codes[codes >= 0], minlength=len(texts))
    unknown = {str(texts[i]): int(rows[i]) for i in np.argsort(-rows, kind="stable") if indices[i] == absent}
    return indices[codes], unknown


def read_run(where: str, letter: str) -> FinishedRun:
    """Read a run directory, also in an object store; SemscaleError if it is none, unfinished or of another format."""
    folder, study = finished_run(where, _COLUMNS)
    tables = {name: read_table(folder, f"{name}.parquet", columns) for name, columns in _COLUMNS.items()}
    return FinishedRun(letter, folder, study, read_environment(folder), **tables)


def read_answers(run: FinishedRun, curve: Mapping[Any, Any]) -> CurveAnswers:
    """Read the answers of a row of curves.parquet; SemscaleError if predictions and ladders do not fit the tables."""
    images: list[tuple[str, str]] = []
    marks: list[Bool] = []
    ladders: list[Ladder] = []
    for order, mine in rows_of(run.trials, curve).groupby("order", sort=True):
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
                where=f"{run.folder}: {' / '.join(str(curve[name]) for name in CURVE)}, order {order}",
                found="other images than in the first order" if counted == ours else "other counts of right images",
                hint=f"give: semscale sweep --resume {run.folder}",
            )
        images = found
        marks.append(correct)
        ladders.append(ladder)
    return CurveAnswers(images, np.stack(marks), ladders[0].scales, ladders[0])


def _predictions(run: FinishedRun, curve: Mapping[Any, Any], order: int) -> tuple[Ladder, pd.DataFrame]:
    """Return the ladder of one order and its predictions, sorted by file and class."""
    beside = (curve["aggregation"],) if len(run.study.aggregations) > 1 else ()
    ladder_file = f"ladders/{slug(curve['dataset'], curve['strategy'], order)}.json"
    predictions = f"predictions/{slug(curve['dataset'], curve['model'], curve['strategy'], order, *beside)}.parquet"
    for name in (ladder_file, predictions):
        run.folder.pull(name)
        if not (run.folder.local / name).is_file():
            resume = f"give: semscale sweep --resume {run.folder}"
            raise SemscaleError("a file of the run is missing", where=f"{run.folder}/{name}", hint=resume)
    ladder = read_ladder(run.folder.local / ladder_file)
    columns = ("file", "true_class", *(str(step.n_categories) for step in ladder.steps))
    return ladder, read_table(run.folder, predictions, columns).sort_values(["file", "true_class"], kind="stable")
