"""Comparison of finished studies: every later run against the first, paired where both have the same images."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

import pandas as pd

from semscale.analysis.control import compare_with_control
from semscale.analysis.intervals import Proportion, difference_interval, holm
from semscale.common.errors import SemscaleError
from semscale.common.redact import shown
from semscale.report.headlines import rows_of
from semscale.runs.finished import CURVE_COLUMNS, CurveAnswers, FinishedRun, read_answers, read_run

Row = dict[str, Any]
Points = Mapping[str, tuple[int, int]]

POINTS = ("scale 1", "last common scale", "peak")
"""Where two curves are compared: with the class names alone, as far as both go, and each at its own peak."""

# of the study file; where it runs (servers, stores, devices) changes no result
_KEYS = ("encoder", "aggregation", "steps", "scales", "orders", "controls", "limit", "max_bad_fraction", "margin")
_OF_MODEL = ("weights_sha256", "architecture", "dtype", "device")


@dataclass(frozen=True)
class Compared:
    """Result of a comparison; accuracies and differences are shares.

    Attributes:
        runs: the runs, in the order in which they were given.
        curves: a row per curve and run: `run` (its letter), `curve` (its name), columns of curves.parquet, and the
            simultaneous 95 % interval of the change at the peak, `peak_change_low` and `peak_change_high`.
        differs: name of a setting -> its value in each run, where these differ; None where a run has no such thing.
        same: names of the settings that are the same in all runs.
        comparisons: a row per curve that is in the first and in another run, and per point: see :func:`compare`.
        n_tests: the different paired tests that `p_holm` is corrected for.
        alone: run -> names of its curves that no other run has.
    """

    runs: list[FinishedRun]
    curves: list[Row]
    differs: dict[str, list[str | None]]
    same: list[str]
    comparisons: list[Row]
    n_tests: int
    alone: dict[str, list[str]]

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        letters = [run.letter for run in self.runs]
        runs = [
            {"run": run.letter, "folder": str(run.folder), "study": run.study.name, "digest": run.study.digest()}
            for run in self.runs
        ]
        differs = {name: dict(zip(letters, values, strict=True)) for name, values in self.differs.items()}
        return {**vars(self), "runs": runs, "differs": differs}


@dataclass(frozen=True)
class _Curve:
    """A curve of a run: its row of curves.parquet, its rows of steps.parquet and its answers."""

    row: Row
    steps: pd.DataFrame
    answers: CurveAnswers


def compare(places: Sequence[str], progress: Callable[[int, int], None] = lambda done, total: None) -> Compared:
    """Put two or more finished run directories, also in object stores, side by side.

    Curves of the same name are compared: dataset and strategy, with the model where a study has several, and the
    aggregation likewise. So studies of two models, or of two aggregations, meet in their curves. Each of the rows
    `comparisons` is the later run less the first one: `curve`, `run`, `other_run`, `at` (scale 1, the last common
    scale, the peak of each), `scale`, `other_scale`, `accuracy`, `other_accuracy`, `difference`, `low`, `high` (95 %),
    `paired`, `images`, `other_images`, `common_images`, `same_sets` (whether both offer the same categories at the last
    common scale). Where both have the same images (file names and true classes) the difference is paired, with
    `gained` and `lost` images (None with several orders), McNemar's `p`, and `p_holm` over all these tests; else these
    are None and the interval is that of two independent samples. A peak is chosen on the same images that it is
    measured on, so differences between peaks are told with that in mind.
    """
    if not 2 <= len(places) <= len(ascii_uppercase):
        raise SemscaleError("a comparison needs two runs or more", found=", ".join(places) or "none")
    runs = [read_run(place, letter) for place, letter in zip(places, ascii_uppercase, strict=False)]
    if twice := [str(run.folder) for run in runs if sum(run.folder == other.folder for other in runs) > 1]:
        raise SemscaleError("a run stands here twice", found=twice[0], expected="different run directories")
    several = [name for name in ("model", "aggregation") if any(run.curves[name].nunique() > 1 for run in runs)]
    total = sum(len(run.curves) for run in runs)
    curves: list[dict[str, _Curve]] = []
    for run in runs:
        curves.append({})
        for row in run.curves.to_dict("records"):
            name = " x ".join(str(row[column]) for column in ("dataset", "strategy", *several))
            steps = rows_of(run.steps, row)
            curves[-1][name] = _Curve({str(key): value for key, value in row.items()}, steps, read_answers(run, row))
            progress(sum(map(len, curves)), total)
    comparisons = [
        {"curve": name, "run": runs[0].letter, "other_run": run.letter, **row}
        for run, mine in zip(runs[1:], curves[1:], strict=True)
        for name, curve in curves[0].items()
        if name in mine
        for row in _compared(curve, mine[name])
    ]
    n_tests = _correct_for_several(comparisons)
    differs, same = _compare_settings(
        [_settings_of(run, _one_per_dataset(mine)) for run, mine in zip(runs, curves, strict=True)]
    )
    alone = {
        run.letter: [name for name in mine if sum(name in other for other in curves) == 1]
        for run, mine in zip(runs, curves, strict=True)
    }
    return Compared(runs, list(_rows(runs, curves)), differs, same, comparisons, n_tests, alone)


def _one_per_dataset(curves: Mapping[str, _Curve]) -> dict[str, CurveAnswers]:
    return {str(curve.row["dataset"]): curve.answers for curve in reversed(list(curves.values()))}


def _rows(runs: Sequence[FinishedRun], curves: Sequence[Mapping[str, _Curve]]) -> Iterator[Row]:
    """Return the rows curve by curve, so that the same curve of all runs stands together."""
    for name in dict.fromkeys(name for mine in curves for name in mine):
        for run, mine in zip(runs, curves, strict=True):
            if name in mine:
                row, steps = mine[name].row, mine[name].steps
                (peak,) = steps[steps["scale"] == row["peak_scale"]].to_dict("records")
                band = {f"peak_change_{end}": float(peak[f"change_band_{end}"]) for end in ("low", "high")}
                yield {"run": run.letter, "curve": name, **{key: row[key] for key in CURVE_COLUMNS}, **band}


def _compared(first: _Curve, second: _Curve) -> Iterator[Row]:
    one, other = first.answers, second.answers
    last = max(set(one.scales) & set(other.scales))
    scales = (1, 1), (last, last), (int(first.row["peak_scale"]), int(second.row["peak_scale"]))
    # without a common scale after the first one, the last one is that and not repeated
    points = {name: pair for name, pair in zip(POINTS, scales, strict=True) if name != POINTS[1] or last > 1}
    rows = _paired(one, other, points) if one.images == other.images else _unpaired(first.steps, second.steps, points)
    for row in rows:
        yield {
            "dataset": first.row["dataset"],
            "strategy": first.row["strategy"],
            **{key: first.row[key] for key in ("model", "aggregation")},
            **{f"other_{key}": second.row[key] for key in ("model", "aggregation")},
            "images": len(one.images),
            "other_images": len(other.images),
            "common_images": one.common_images(other),
            "same_sets": _same_sets(one, other, last),
            **row,
        }


def _paired(first: CurveAnswers, second: CurveAnswers, points: Points) -> Iterator[Row]:
    """Return the second curve less the first at each point, on the same images in the same order."""
    one, other = (answers.at(*(pair[side] for pair in points.values())) for side, answers in enumerate((first, second)))
    steps = compare_with_control(list(range(len(points))), other, one).steps
    for index, ((name, pair), found) in enumerate(zip(points.items(), steps.to_dict("records"), strict=True)):
        accuracies = (float(one[:, :, index].mean()), float(other[:, :, index].mean()))
        numbers = {key: float(found[key]) for key in ("low", "high", "p")}
        flips = {side: None if pd.isna(found[side]) else int(found[side]) for side in ("gained", "lost")}
        yield {**_difference(name, pair, accuracies), "paired": True, **numbers, **flips}


def _unpaired(first: pd.DataFrame, second: pd.DataFrame, points: Points) -> Iterator[Row]:
    """Return the second curve less the first at each point, from the intervals of both in steps.parquet."""
    for name, pair in points.items():
        sides: list[Proportion] = []
        for steps, scale in zip((first, second), pair, strict=True):
            (row,) = steps[steps["scale"] == scale].to_dict("records")
            sides.append((float(row["accuracy"]), float(row["ci_low"]), float(row["ci_high"])))
        low, high = difference_interval(*sides)
        difference = _difference(name, pair, (sides[0][0], sides[1][0]))
        yield {**difference, "paired": False, "low": low, "high": high, **dict.fromkeys(("p", "gained", "lost"))}


def _difference(point: str, scales: tuple[int, int], accuracies: tuple[float, float]) -> Row:
    return {
        "at": point,
        "scale": scales[0],
        "other_scale": scales[1],
        "accuracy": accuracies[0],
        "other_accuracy": accuracies[1],
        "difference": accuracies[1] - accuracies[0],
    }


def _correct_for_several(rows: Sequence[Row]) -> int:
    """Add `p_holm` to all rows: Holm's p over all different paired tests; return how many these are.

    At scale 1 only the class names are offered, so that all strategies of a dataset share one test; and a peak may be
    the last scale.
    """
    tests = {_test(row): row["p"] for row in rows if row["p"] is not None}
    adjusted = dict(zip(tests, holm(list(tests.values())).tolist(), strict=True))
    for row in rows:
        row["p_holm"] = None if row["p"] is None else adjusted[_test(row)]
    return len(tests)


def _test(row: Row) -> tuple[Any, ...]:
    scales = (row["scale"], row["other_scale"])
    which = ("run", "other_run", "dataset", "model", "other_model", "p")
    names = ("strategy", "aggregation", "other_aggregation")
    return (*scales, *(row[name] for name in which), *(() if scales == (1, 1) else (row[name] for name in names)))


def _settings_of(run: FinishedRun, answers: Mapping[str, CurveAnswers]) -> dict[str, str]:
    """Return what a study ran with, by name, given the answers of one curve of each dataset."""
    study = run.study
    found = {"semscale": str(run.environment.get("semscale", "unknown")), "models": ", ".join(study.models)}
    models = run.environment.get("models", {})
    for name in study.models:
        known = models.get(name, {})
        beside = f" of {name}" if len(study.models) > 1 else ""
        for key in _OF_MODEL:
            if (value := known.get(key)) is not None:
                short = re.sub(r"^([0-9a-f]{12})[0-9a-f]{20,}$", r"\1", str(value))
                found[f"{key.removesuffix('_sha256')}{beside}"] = short
    found["strategies"] = ", ".join(_entry(entry.model_dump(exclude_defaults=True)) for entry in study.strategies)
    for entry in study.datasets:
        values = {key: value for key, value in entry.model_dump(exclude_defaults=True).items() if key != "spec"}
        found[f"dataset {shown(entry.title)}"] = shown(_entry({"spec": entry.spec, **values}))
    found |= {key: _plain(getattr(study, key)) for key in _KEYS}
    for name, one in answers.items():
        found[f"images of {name}"] = f"{len(one.images):,}, digest {one.digest}"
    return found


def _compare_settings(settings: Sequence[Mapping[str, str]]) -> tuple[dict[str, list[str | None]], list[str]]:
    """Return name -> value of each run for what differs, and the names of what is the same in all."""
    names = list(dict.fromkeys(name for one in settings for name in one))
    values = {name: [one.get(name) for one in settings] for name in names}
    differs = {name: found for name, found in values.items() if len(set(found)) > 1}
    return differs, [name for name in names if name not in differs]


def _same_sets(first: CurveAnswers, second: CurveAnswers, scale: int) -> bool:
    """Whether two curves offer the same categories at a scale that both have, in whatever order."""
    sets = [
        {name: sorted(texts) for name, texts in step.categories.items()}
        for answers in (first, second)
        for step in answers.ladder.steps
        if step.scale == scale
    ]
    return sets[0] == sets[1]


def _entry(values: Mapping[str, Any]) -> str:
    """Return an entry of a study file in one line: its name, and what else it says."""
    first, *rest = values.values()
    more = [f"{key}: {_plain(value)}" for key, value in zip(list(values)[1:], rest, strict=True)]
    return f"{first} ({', '.join(more)})" if more else str(first)


def _plain(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_plain(item)}" for key, item in value.items())
    return "none" if value is None else str(value)
