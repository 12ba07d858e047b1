"""Differences of two curves: paired on the same images, else of independent samples."""

from __future__ import annotations

from typing import Any

import pandas as pd

from semscale.analysis.control import compare_with_control
from semscale.analysis.intervals import Proportion, difference_interval, holm
from semscale.runs.finished import CurveAnswers

Row = dict[str, Any]

POINTS = ("scale 1", "last common scale", "peak")
"""Where two curves are compared: with the class names alone, as far as both go, and each at its own peak."""


def compared_scales(first: CurveAnswers, second: CurveAnswers, peaks: tuple[int, int]) -> dict[str, tuple[int, int]]:
    """Return the scales that are compared: place -> scale of the first, scale of the second.

    Without a common scale after the first one, the last one is that and not repeated.
    """
    last = max(set(first.scales) & set(second.scales))
    points = zip(POINTS, ((1, 1), (last, last), peaks), strict=True)
    return {name: scales for name, scales in points if name != POINTS[1] or last > 1}


def compare_paired(first: CurveAnswers, second: CurveAnswers, points: dict[str, tuple[int, int]]) -> list[Row]:
    """Return a row per point: the second curve less the first, on the same images in the same order.

    With one order on both sides the interval is Bonett and Price's and p exact McNemar; with more, both come from
    replicates of images and orders (:func:`semscale.analysis.control.compare_with_control`).
    """
    one, other = (
        answers.at(*(scales[side] for scales in points.values())) for side, answers in enumerate((first, second))
    )
    steps = compare_with_control(list(range(len(points))), other, one).steps
    rows = []
    for index, (name, scales) in enumerate(points.items()):
        found = steps.iloc[index]
        accuracies = [float(side[:, :, index].mean()) for side in (one, other)]
        rows.append(
            _row(name, scales, accuracies)
            | {"paired": True, "low": float(found["low"]), "high": float(found["high"]), "p": float(found["p"])}
            | {side: None if pd.isna(found[side]) else int(found[side]) for side in ("gained", "lost")}
        )
    return rows


def compare_unpaired(first: pd.DataFrame, second: pd.DataFrame, points: dict[str, tuple[int, int]]) -> list[Row]:
    """Return a row per point: the second curve less the first, from the intervals of both.

    Args:
        first, second: the curves' rows of steps.parquet.
        points: see :func:`compared_scales`.
    """
    rows = []
    for name, scales in points.items():
        sides: list[Proportion] = []
        for steps, scale in zip((first, second), scales, strict=True):
            (row,) = steps[steps["scale"] == scale].to_dict("records")
            sides.append((float(row["accuracy"]), float(row["ci_low"]), float(row["ci_high"])))
        low, high = difference_interval(*sides)
        rows.append(
            _row(name, scales, [side[0] for side in sides])
            | {"paired": False, "low": low, "high": high, "p": None, "gained": None, "lost": None}
        )
    return rows


def _row(point: str, scales: tuple[int, int], accuracies: list[float]) -> Row:
    return {
        "at": point,
        "scale": scales[0],
        "other_scale": scales[1],
        "accuracy": accuracies[0],
        "other_accuracy": accuracies[1],
        "difference": accuracies[1] - accuracies[0],
    }


def correct_for_several(rows: list[Row]) -> int:
    """Add `p_holm` to all rows: Holm's p over all different paired tests; return how many these are.

    At scale 1 only the class names are offered, so that all strategies of a dataset share one test; and a peak may be
    the last scale.
    """
    tests: dict[tuple[Any, ...], float] = {}
    for row in rows:
        if row["p"] is not None:
            tests.setdefault(_test(row), row["p"])
    adjusted = dict(zip(tests, holm(list(tests.values())).tolist(), strict=True))
    for row in rows:
        row["p_holm"] = None if row["p"] is None else adjusted[_test(row)]
    return len(tests)


def _test(row: Row) -> tuple[Any, ...]:
    scales = (row["scale"], row["other_scale"])
    which = ("run", "other_run", "dataset", "model", "other_model", "p")
    names = ("strategy", "aggregation", "other_aggregation")
    return (*scales, *(row[name] for name in which), *(() if scales == (1, 1) else (row[name] for name in names)))
