"""Which images a curve has right at which step, from its predictions and its ladders."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from semscale.categories.files import read_ladder
from semscale.categories.ladder import Ladder
from semscale.comparison.runs import FinishedRun, read_parquet
from semscale.errors import SemscaleError
from semscale.study.rundir import CURVE_KEY, slug

Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Answers:
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


def read_answers(run: FinishedRun, curve: dict[Any, Any]) -> Answers:
    """Read the answers of a curve.

    Args:
        run: the run directory; what lies in an object store is brought here.
        curve: the curve's row of curves.parquet.

    Raises:
        SemscaleError: predictions or ladders are missing or cannot be read, orders differ in images, or the
            predictions do not give the accuracies of the run's tables.
    """
    trials = run.trials[(run.trials[list(CURVE_KEY)] == [curve[name] for name in CURVE_KEY]).all(axis=1)]
    images: list[tuple[str, str]] = []
    marks: list[Bool] = []
    ladders: list[Ladder] = []
    for order, mine in trials.groupby("order", sort=True):
        ladder, table = _files(run, curve, int(str(order)))
        found, correct = _look_up(ladder, table)
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
    return Answers(images, np.stack(marks), ladders[0].scales, ladders[0])


def common_images(first: Answers, second: Answers) -> int:
    """Return how many images both have."""
    return (Counter(first.images) & Counter(second.images)).total()


def _files(run: FinishedRun, curve: dict[Any, Any], order: int) -> tuple[Ladder, pd.DataFrame]:
    beside = (curve["aggregation"],) if len(run.study.aggregations) > 1 else ()
    ladder = f"ladders/{slug(curve['dataset'], curve['strategy'], order)}.json"
    parts = (curve["dataset"], curve["model"], curve["strategy"], order, *beside)
    predictions = f"predictions/{slug(*parts)}.parquet"
    for name in (ladder, predictions):
        run.folder.pull_again(name)
        if not (run.folder.local / name).is_file():
            raise SemscaleError(
                "a file of the run is missing",
                where=f"{run.folder}/{name}",
                hint=f"give: semscale sweep --resume {run.folder}",
            )
    made, table = read_ladder(run.folder.local / ladder), read_parquet(run.folder, predictions)
    lacking = {"file", "true_class", *(str(step.n_categories) for step in made.steps)} - set(table.columns)
    if lacking:
        raise SemscaleError(
            "the predictions of the run are of another format",
            where=f"{run.folder}/{predictions}",
            found=f"no column {', '.join(sorted(lacking))}",
        )
    return made, table


def _look_up(ladder: Ladder, table: pd.DataFrame) -> tuple[list[tuple[str, str]], Bool]:
    place = {name: index for index, name in enumerate(ladder.classes)}
    flat = ladder.flatten()
    owner = dict(zip(flat.texts, flat.class_index.tolist(), strict=True))
    table = table.sort_values(["file", "true_class"], kind="stable")
    true = _indices(table["true_class"], place, absent=-2)
    right = [_indices(table[str(step.n_categories)], owner, absent=-1) == true for step in ladder.steps]
    return list(zip(table["file"], table["true_class"], strict=True)), np.column_stack(right)


def _indices(column: pd.Series[str], known: dict[str, int], absent: int) -> npt.NDArray[np.int64]:
    """Look every different text up once: there are tens of thousands of rows and some hundred texts."""
    codes, texts = pd.factorize(column)
    return np.array([*(known.get(str(text), absent) for text in texts), absent], dtype=np.int64)[codes]
