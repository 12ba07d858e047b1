"""Published results scored again: steps and curves of folders with a ladder and its predictions."""

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
from semscale.runs.published_folders import PublishedLadder, PublishedStep, Source, find_sources, read_published_ladder
from semscale.study.run_directory import read_parquet

Row = dict[str, Any]

_PERCENT = ("baseline", "peak", "peak_change", "peak_change_corrected", "final_change")
_CONCLUSIONS = (
    "baseline", "peak", "peak_n_categories", "peak_change", "peak_p", "peak_change_corrected", "final_change",
    "critical_scale", "critical_low", "critical_high", "trend",
)  # fmt: skip


@dataclass(frozen=True)
class Replay:
    """Result of scoring again; accuracies in percent, changes in points, as such studies print them.

    `steps` has a row per step, with its difference to the published accuracy and the `unknown` predicted texts that
    were not offered, with their images; `curves` a row per curve, from its usable steps and the images that have a
    prediction at all of them, with None for all conclusions where there are none.
    """

    steps: list[Row]
    curves: list[Row]


@dataclass(frozen=True)
class RescoredStep:
    """Answers of one step: bool[n] rows with a class and a prediction, bool[n] correct ones, texts not offered."""

    step: PublishedStep
    present: Bool
    correct: Bool
    unknown: dict[str, int]


def replay(
    paths: Sequence[Path], margin: float = MARGIN, progress: Callable[[int, int], None] = lambda done, total: None
) -> Replay:
    """Score all predictions under folders with `ladder.json` and `predictions.parquet`, or run directories, again.

    Names are compared after :func:`semscale.common.text.text_key`. A row without a true class or a prediction is no
    image of that step; a text that was not offered and a true class that is not in the ladder count as wrong.
    """
    steps: list[Row] = []
    curves: list[Row] = []
    sources = find_sources(paths)
    several_models = len({source.model for source in sources if source.model}) > 1
    for done, source in enumerate(sources, start=1):
        ladder = read_published_ladder(source.ladder)
        answers = rescore(ladder, read_predictions(source.predictions), str(source.predictions))
        name = {"dataset": ladder.dataset, "family": _family(ladder, source, several_models)}
        steps += [name | _step_row(answer) for answer in answers]
        curves.append(name | _curve_row(answers, margin))
        progress(done, len(sources))
    return Replay(steps, curves)


def _family(ladder: PublishedLadder, source: Source, several_models: bool) -> str:
    beside = ", ".join(filter(None, (source.model if several_models else "", source.aggregation)))
    return f"{ladder.family} ({beside})" if beside else ladder.family


def read_predictions(path: Path) -> pd.DataFrame:
    """Read a table of predictions; SemscaleError if it cannot be read, or has no row or no true class."""
    try:
        table = read_parquet(path)
    except (OSError, ValueError) as error:
        raise SemscaleError("cannot read the predictions", where=str(path), found=summarize(error)) from error
    if "true_class" not in table:
        columns = ", ".join(map(str, table.columns))
        raise SemscaleError("the predictions have no column 'true_class'", where=str(path), found=columns)
    if not len(table):
        raise SemscaleError("the predictions have no row", where=str(path))
    return table


def rescore(ladder: PublishedLadder, table: pd.DataFrame, where: str) -> list[RescoredStep]:
    """Return the answers of each step; SemscaleError if a usable one has no column of predictions."""
    classes = {text_key(name): index for index, name in enumerate(ladder.classes)}
    has_class = table["true_class"].notna().to_numpy(dtype=np.bool_)
    answers = []
    for step in ladder.steps:
        column = str(step.n_categories)
        if column in table:
            present = has_class & table[column].notna().to_numpy(dtype=np.bool_)
            correct, unknown = correct_predictions(
                table["true_class"], table[column].where(present), classes, step.owners, text_key
            )
            answers.append(RescoredStep(step, present, present & correct, unknown))
        elif step.usable:
            found = ", ".join(name for name in map(str, table.columns) if name not in ("file", "true_class"))
            expected = f"a column {column!r}"
            raise SemscaleError("a step has no column of predictions", where=where, found=found, expected=expected)
        else:
            nothing = np.zeros(len(table), dtype=np.bool_)
            answers.append(RescoredStep(step, nothing, nothing, {}))
    return answers


def _step_row(answer: RescoredStep) -> Row:
    step = answer.step
    n, right = int(answer.present.sum()), int(answer.correct.sum())
    accuracy = low = high = difference = None
    if n:
        accuracy = 100 * right / n
        low, high = (100 * float(end) for end in wilson_interval(right, n))
        difference = None if step.published_accuracy is None else accuracy - step.published_accuracy
    issues = [step.issue] if step.issue else []
    if step.shared:
        issues.append("texts under two classes, counted for the first: " + ", ".join(map(repr, step.shared)))
    return {
        "n_categories": step.n_categories,
        "scale": step.scale,
        "n_images": n,
        "correct": right,
        "accuracy": accuracy,
        "ci_low": low,
        "ci_high": high,
        "published_accuracy": step.published_accuracy,
        "difference": difference,
        "usable": step.usable,
        "issue": "; ".join(issues) or None,
        "unknown": answer.unknown,
    }


def _curve_row(answers: Sequence[RescoredStep], margin: float) -> Row:
    usable = [answer for answer in answers if answer.step.usable]
    shared = np.logical_and.reduce([answer.present for answer in usable]) if usable else np.zeros(0, np.bool_)
    row: Row = {"n_images": int(shared.sum()), "n_steps": len(usable), **dict.fromkeys(_CONCLUSIONS)}
    if not shared.any():
        return row
    correct = np.column_stack([answer.correct[shared] for answer in usable])
    found = conclude([answer.step.scale for answer in usable], correct, margin).columns()
    row |= {name: 100 * found[name] if name in _PERCENT else found[name] for name in _CONCLUSIONS if name in found}
    return row | {"peak_n_categories": usable[int(correct.sum(axis=0).argmax())].step.n_categories}
