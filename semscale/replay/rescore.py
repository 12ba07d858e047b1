"""Which images are right, by looking every predicted text up in the categories that were offered."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from semscale.errors import SemscaleError, summarize
from semscale.replay.ladders import ReplayLadder, ReplayStep
from semscale.replay.text import fold


@dataclass(frozen=True)
class Rescored:
    """The answers of one step for all n rows of a predictions file.

    Attributes:
        step: what was offered.
        present: bool[n], rows that have a true class and a prediction at this step.
        correct: bool[n], rows whose predicted text belongs to their true class.
        unknown: rows by predicted text that was not offered, as written there, most frequent first.
    """

    step: ReplayStep
    present: NDArray[np.bool_]
    correct: NDArray[np.bool_]
    unknown: dict[str, int]


def read_predictions(path: Path) -> pd.DataFrame:
    """Read a predictions file: `true_class` and a column of predicted texts per step.

    Raises:
        SemscaleError: when it cannot be read, or has no row or no column `true_class`.
    """
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        first_line = summarize(error)
        raise SemscaleError("cannot read the predictions", where=str(path), found=first_line) from error
    if "true_class" not in table:
        raise SemscaleError(
            "the predictions have no column 'true_class'", where=str(path), found=", ".join(map(str, table.columns))
        )
    if not len(table):
        raise SemscaleError("the predictions have no row", where=str(path))
    return table


def rescore(ladder: ReplayLadder, table: pd.DataFrame, where: str) -> list[Rescored]:
    """Return the answers of every step.

    Predicted texts, categories and true classes are compared after :func:`semscale.replay.text.fold`. A row
    without a true class or without a prediction is no image of that step; a text that was not offered, and a
    true class that the ladder has not, count as wrong.

    Args:
        ladder: what was offered.
        table: see :func:`read_predictions`.
        where: the predictions file, for messages.

    Raises:
        SemscaleError: when a usable step has no column of predictions.
    """
    place = {fold(name): index for index, name in enumerate(ladder.classes)}
    true = _look_up(table["true_class"], place, absent=-2)[0]
    has_class = table["true_class"].notna().to_numpy(dtype=np.bool_)
    answers = []
    for step in ladder.steps:
        column = str(step.n_categories)
        if column not in table:
            if step.usable:
                raise SemscaleError(
                    "a step has no column of predictions",
                    where=where,
                    found=", ".join(name for name in map(str, table.columns) if name not in ("file", "true_class")),
                    expected=f"a column {column!r}",
                )
            nothing = np.zeros(len(table), dtype=np.bool_)
            answers.append(Rescored(step, nothing, nothing, {}))
            continue
        present = has_class & table[column].notna().to_numpy(dtype=np.bool_)
        found, unknown = _look_up(table[column].where(present), step.owner, absent=-1)
        answers.append(Rescored(step, present, present & (found == true), unknown))
    return answers


def _look_up(column: pd.Series[str], table: dict[str, int], absent: int) -> tuple[NDArray[np.int64], dict[str, int]]:
    """Return the index of every row's text, and the texts that the table has not with their numbers of rows.

    Every different text is looked up once: files have tens of thousands of rows and some hundred texts.
    """
    codes, texts = pd.factorize(column)
    indices = [table.get(fold(str(text)), absent) for text in texts]
    unknown = Counter(
        {
            str(text): int(rows)
            for text, index, rows in zip(
                texts, indices, np.bincount(codes[codes >= 0], minlength=len(texts)), strict=True
            )
            if index == absent
        }
    )
    return np.array([*indices, absent], dtype=np.int64)[codes], dict(unknown.most_common())
