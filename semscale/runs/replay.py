"""Replay of published results: the steps and curves of folders with a ladder and its predictions, scored again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from semscale.analysis.contrasts import MARGIN
from semscale.analysis.curve import conclude
from semscale.analysis.intervals import wilson_interval
from semscale.common.errors import SemscaleError, summarize
from semscale.common.text import text_key
from semscale.runs.finished import Bool, correct_predictions
from semscale.runs.published_folders import PublishedLadder, PublishedStep, find_published, read_published_ladder
from semscale.study.run_directory import read_parquet

Row = dict[str, Any]

_PERCENT = ("baseline", "peak", "peak_change", "peak_change_corrected", "final_change")
_CONCLUSIONS = (
    "baseline", "peak", "peak_n_categories", "peak_change", "peak_p", "peak_change_corrected", "final_change",
    "critical_scale", "critical_low", "critical_high", "trend",
)  # fmt: skip


@dataclass(frozen=True)
class Replay:
    """Result of a replay; accuracies in percent, changes in points, as such studies print them.

    `steps` has a row per step, with the difference to the published accuracy and the number of images of each `unknown`
    predicted text, which is no category of the step; `curves` a row per curve, from its usable steps and the images
    with a prediction at all of them; if there are none, all conclusions are None.
    """

    steps: list[Row]
    curves: list[Row]


@dataclass(frozen=True)
class RescoredStep:
    """Rows of a step with a class and a prediction, bool[n], the correct ones, bool[n], and the unknown texts."""

    step: PublishedStep
    present: Bool
    correct: Bool
    unknown: dict[str, int]


def replay(
    paths: Sequence[Path], margin: float = MARGIN, progress: Callable[[int, int], None] = lambda done, total: None
) -> Replay:
    """Score all predictions again: folders with `ladder.json` and `predictions.parquet`, or run directories.

    Names are compared by :func:`semscale.common.text.text_key`. Rows without a true class or a prediction are excluded
    from a step; predicted texts that are no category of the step, and true classes that the ladder lacks, are wrong.
    """
    steps: list[Row] = []
    curves: list[Row] = []
    folders = find_published(paths)
    several_models = len({folder.model for folder in folders if folder.model}) > 1
    for done, folder in enumerate(folders, start=1):
        ladder = read_published_ladder(folder.ladder)
        rescored = rescore(ladder, read_predictions(folder.predictions), str(folder.predictions))
        details = ", ".join(filter(None, (folder.model if several_models else "", folder.aggregation)))
        name = {"dataset": ladder.dataset, "family": f"{ladder.family} ({details})" if details else ladder.family}
        steps += [name | _step_row(step) for step in rescored]
        curves.append(name | _curve_row(rescored, margin))
        progress(done, len(folders))
    return Replay(steps, curves)


def read_predictions(path: Path) -> pd.DataFrame:
    """Read a table of predictions; SemscaleError if it cannot be read, is empty or has no true classes."""
    try:
        table = read_parquet(path)
    except (OSError, ValueError) as error:
        raise SemscaleError("cannot read the predictions", where=str(path), found=summarize(error)) from error
    if "true_class" not in table:
        columns = ", ".join(map(str, table.columns))
        raise SemscaleError("the predictions have no column 'true_class'", where=str(path), found=columns)
    if not len(table):
        raise SemscaleError("the predictions are empty", where=str(path))
    return table


def rescore(ladder: PublishedLadder, table: pd.DataFrame, where: str) -> list[RescoredStep]:
    """Score each step again; SemscaleError if a usable step has no column of predictions."""
    classes = {text_key(name): index for index, name in enumerate(ladder.classes)}
    has_class = table["true_class"].notna().to_numpy(dtype=np.bool_)
    rescored = []
    for step in ladder.steps:
        column = str(step.n_categories)
        if column in table:
            present = has_class & table[column].notna().to_numpy(dtype=np.bool_)
            correct, unknown = correct_predictions(
                table["true_class"], table[column].where(present), classes, step.owners, text_key
            )
            rescored.append(RescoredStep(step, present, present & correct, unknown))
        elif step.usable:
            found = ", ".join(name for name in map(str, table.columns) if name not in ("file", "true_class"))
            expected = f"a column {column!r}"
            raise SemscaleError("a step has no column of predictions", where=where, found=found, expected=expected)
        else:
            none = np.zeros(len(table), dtype=np.bool_)
            rescored.append(RescoredStep(step, none, none, {}))
    return rescored


def _step_row(rescored: RescoredStep) -> Row:
    step = rescored.step
    n, n_correct = int(rescored.present.sum()), int(rescored.correct.sum())
    accuracy = low = high = difference = None
    if n:
        accuracy = 100 * n_correct / n
        low, high = (100 * float(end) for end in wilson_interval(n_correct, n))
        difference = None if step.published_accuracy is None else accuracy - step.published_accuracy
    issues = [step.issue] if step.issue else []
    if step.shared:
        issues.append("texts under two classes, counted for the first: " + ", ".join(map(repr, step.shared)))
    return {
        "n_categories": step.n_categories,
        "scale": step.scale,
        "n_images": n,
        "correct": n_correct,
        "accuracy": accuracy,
        "ci_low": low,
        "ci_high": high,
        "published_accuracy": step.published_accuracy,
        "difference": difference,
        "usable": step.usable,
        "issue": "; ".join(issues) or None,
        "unknown": rescored.unknown,
    }


def _curve_row(rescored: Sequence[RescoredStep], margin: float) -> Row:
    usable = [one for one in rescored if one.step.usable]
    shared = np.logical_and.reduce([one.present for one in usable]) if usable else np.zeros(0, np.bool_)
    row: Row = {"n_images": int(shared.sum()), "n_steps": len(usable), **dict.fromkeys(_CONCLUSIONS)}
    if not shared.any():
        return row
    correct = np.column_stack([one.correct[shared] for one in usable])
    values = conclude([one.step.scale for one in usable], correct, margin).columns()
    row |= {name: 100 * values[name] if name in _PERCENT else values[name] for name in _CONCLUSIONS if name in values}
    return row | {"peak_n_categories": usable[int(correct.sum(axis=0).argmax())].step.n_categories}
