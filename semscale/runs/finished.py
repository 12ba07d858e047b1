"""Finished run directory, local or in an object store: its study, its tables, and the correctness of predictions."""

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
from semscale.report.headlines import CURVE_KEY, rows_of
from semscale.store.mirrored_directory import MirroredDirectory
from semscale.study.run_directory import finished_run, read_environment, read_table

Bool = npt.NDArray[np.bool_]
ClassIndices = Mapping[str, int]
"""Class index by class name or category text."""

CURVE_COLUMNS = (
    *CURVE_KEY, "role", "n_images", "n_orders", "baseline", "peak", "peak_scale", "peak_change", "critical_scale",
    "critical_low", "critical_high", "trend",
)  # fmt: skip
# columns that a comparison reads
_COLUMNS = {
    "trials": (*CURVE_KEY, "order", "scale", "n_correct"),
    "curves": CURVE_COLUMNS,
    "steps": (*CURVE_KEY, "scale", "accuracy", "ci_low", "ci_high", "change_band_low", "change_band_high"),
}


@dataclass(frozen=True)
class FinishedRun:
    """Results of a study: label in a comparison, directory, resolved study, environment.json and tables."""

    label: str
    folder: MirroredDirectory
    study: StudyConfig
    environment: dict[str, Any]
    trials: pd.DataFrame
    curves: pd.DataFrame
    steps: pd.DataFrame


@dataclass(frozen=True)
class CurveCorrectness:
    """Correctness of a curve's predictions, bool[O, n, S]: O orders, n sorted images (file, true class), S scales.

    The ladder is that of the first order.
    """

    images: list[tuple[str, str]]
    correct: Bool
    scales: list[int]
    ladder: Ladder

    @property
    def digest(self) -> str:
        """Digest of the file names and true classes of the images, 12 hex digits."""
        lines = "\n".join(f"{file}\t{name}" for file, name in self.images)
        return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()[:12]

    def at(self, *scales: int) -> Bool:
        """Return the correctness at these scales, bool[O, n, len(scales)]."""
        return self.correct[:, :, [self.scales.index(scale) for scale in scales]]

    def common_images(self, other: CurveCorrectness) -> int:
        """Return the number of images in both."""
        return (Counter(self.images) & Counter(other.images)).total()


def correct_predictions(
    true_class: pd.Series[str],
    predicted: pd.Series[str],
    classes: ClassIndices,
    owners: ClassIndices,
    key: Callable[[str], str] = str,
) -> tuple[Bool, dict[str, int]]:
    """Return which predicted texts belong to the true class, bool[n], and the number of rows of each unknown text.

    `classes` and `owners` are class indices by the `key` of a class name or a category text.
    """
    true, _ = _look_up(true_class, classes, key, absent=-2)
    owner, unknown = _look_up(predicted, owners, key, absent=-1)
    return owner == true, unknown


def _look_up(
    column: pd.Series[str], indices: ClassIndices, key: Callable[[str], str], absent: int
) -> tuple[npt.NDArray[np.int64], dict[str, int]]:
    # each distinct text is looked up once: there are tens of thousands of rows and a few hundred texts
    codes, texts = pd.factorize(column)
    of_text = np.array([*(indices.get(key(str(text)), absent) for text in texts), absent], dtype=np.int64)
    rows = np.bincount(codes[codes >= 0], minlength=len(texts))
    unknown = {str(texts[i]): int(rows[i]) for i in np.argsort(-rows, kind="stable") if of_text[i] == absent}
    return of_text[codes], unknown


def read_run(folder: str, label: str) -> FinishedRun:
    """Read a run directory; SemscaleError if it is missing, unfinished or of another format."""
    directory, study = finished_run(folder, _COLUMNS)
    tables = {name: read_table(directory, f"{name}.parquet", columns) for name, columns in _COLUMNS.items()}
    return FinishedRun(label, directory, study, read_environment(directory), **tables)


def read_correctness(run: FinishedRun, curve: Mapping[Any, Any]) -> CurveCorrectness:
    """Read the correctness of a row of curves.parquet; SemscaleError if the predictions do not fit the tables."""
    images: list[tuple[str, str]] = []
    orders: list[Bool] = []
    ladders: list[Ladder] = []
    for order, trials in rows_of(run.trials, curve).groupby("order", sort=True):
        ladder, table = _predictions(run, curve, int(str(order)))
        order_images = list(zip(table["file"], table["true_class"], strict=True))
        classes = {name: index for index, name in enumerate(ladder.classes)}
        flat = ladder.flatten()
        owners = dict(zip(flat.texts, flat.class_index.tolist(), strict=True))
        predicted = [table[str(step.n_categories)] for step in ladder.steps]
        correct = np.column_stack(
            [correct_predictions(table["true_class"], texts, classes, owners)[0] for texts in predicted]
        )
        expected = dict(zip(trials["scale"].tolist(), trials["n_correct"].tolist(), strict=True))
        counted = dict(zip(ladder.scales, correct.sum(axis=0).tolist(), strict=True))
        if counted != expected or (images and order_images != images):
            raise SemscaleError(
                "the predictions of the run do not fit its tables",
                where=f"{run.folder}: {' / '.join(str(curve[name]) for name in CURVE_KEY)}, order {order}",
                found="other counts of correct images" if counted != expected else "other images than before",
                hint=f"run: semscale sweep --resume {run.folder}",
            )
        images = order_images
        orders.append(correct)
        ladders.append(ladder)
    return CurveCorrectness(images, np.stack(orders), ladders[0].scales, ladders[0])


def _predictions(run: FinishedRun, curve: Mapping[Any, Any], order: int) -> tuple[Ladder, pd.DataFrame]:
    """Return the ladder of an order and its predictions, sorted by file and class."""
    suffix = (curve["aggregation"],) if len(run.study.aggregations) > 1 else ()
    ladder_file = f"ladders/{slug(curve['dataset'], curve['strategy'], order)}.json"
    predictions = f"predictions/{slug(curve['dataset'], curve['model'], curve['strategy'], order, *suffix)}.parquet"
    for name in (ladder_file, predictions):
        run.folder.pull(name)
        if not (run.folder.local / name).is_file():
            resume = f"run: semscale sweep --resume {run.folder}"
            raise SemscaleError("a file of the run is missing", where=f"{run.folder}/{name}", hint=resume)
    ladder = read_ladder(run.folder.local / ladder_file)
    columns = ("file", "true_class", *(str(step.n_categories) for step in ladder.steps))
    return ladder, read_table(run.folder, predictions, columns).sort_values(["file", "true_class"], kind="stable")
