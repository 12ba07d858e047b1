"""Comparison of finished studies: each later run against the first, paired if both have the same images."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

import pandas as pd

from semscale.analysis.control import compare_with_control
from semscale.analysis.intervals import Proportion, difference_interval, holm
from semscale.common.errors import ConfigError
from semscale.common.redact import mask_url
from semscale.report.headlines import rows_of
from semscale.runs.finished import CURVE_COLUMNS, CurveCorrectness, FinishedRun, read_correctness, read_run

Row = dict[str, Any]
ScalePairs = Mapping[str, tuple[int, int]]

COMPARED_SCALES = ("scale 1", "last common scale", "peak")
"""Scales at which two curves are compared: the class names alone, the last scale of both, and each curve's own peak."""

# keys of the study file that affect results; servers, stores and devices do not
_SETTINGS = ("encoder", "aggregation", "steps", "scales", "orders", "controls", "limit", "max_bad_fraction", "margin")
_MODEL_KEYS = ("weights_sha256", "architecture", "dtype", "device")


@dataclass(frozen=True)
class StudyComparison:
    """Result of a comparison; accuracies and differences are shares.

    Attributes:
        runs: the runs in the order of the call.
        curves: a row per curve and run: `run` (its label), `curve` (its name), columns of curves.parquet, and the
            simultaneous 95 % interval of the change at the peak, `peak_change_low` and `peak_change_high`.
        differs: name of a setting -> its value in each run, for settings that differ; None if a run lacks it.
        same: names of the settings that are equal in all runs.
        comparisons: a row per curve of the first and another run, and per compared scale: see :func:`compare`.
        n_tests: number of distinct paired tests that `p_holm` corrects for.
        unmatched: label of a run -> names of its curves that no other run has.
    """

    runs: list[FinishedRun]
    curves: list[Row]
    differs: dict[str, list[str | None]]
    same: list[str]
    comparisons: list[Row]
    n_tests: int
    unmatched: dict[str, list[str]]

    def to_json(self) -> dict[str, Any]:
        """Return everything as values of JSON."""
        labels = [run.label for run in self.runs]
        runs = [
            {"run": run.label, "folder": str(run.folder), "study": run.study.name, "digest": run.study.digest()}
            for run in self.runs
        ]
        differs = {name: dict(zip(labels, values, strict=True)) for name, values in self.differs.items()}
        document = {**vars(self), "runs": runs, "differs": differs}
        document["alone"] = document.pop("unmatched")
        return document


@dataclass(frozen=True)
class _RunCurve:
    """Curve of a run: its row of curves.parquet, its rows of steps.parquet and its correctness."""

    row: Row
    steps: pd.DataFrame
    correctness: CurveCorrectness


def compare(folders: Sequence[str], progress: Callable[[int, int], None] = lambda done, total: None) -> StudyComparison:
    """Compare two or more finished run directories, local or in object stores.

    Curves are matched by name: dataset and strategy, with the model and the aggregation if a study has several, so that
    studies of two models, or of two aggregations, match. Each row of `comparisons` is the later run minus the first:
    `curve`, `run`, `other_run`, `at` (one of `COMPARED_SCALES`), `scale`, `other_scale`, `accuracy`, `other_accuracy`,
    `difference`, `low`, `high` (95 %), `paired`, `images`, `other_images`, `common_images`, `same_sets` (whether both
    have the same categories at the last common scale). On the same images (file names and true classes) the difference
    is paired, with `gained` and `lost` images (None with several orders), McNemar's `p`, and `p_holm` over all these
    tests; otherwise these are None and the interval is that of two independent samples. Peaks are chosen on the images
    on which they are measured, so differences between peaks are optimistic.

    Raises:
        SemscaleError: a run directory is missing, unfinished, inconsistent, or given twice.
    """
    if not 2 <= len(folders) <= len(ascii_uppercase):
        raise ConfigError("a comparison needs two or more runs", found=", ".join(folders) or "none")
    runs = [read_run(folder, label) for folder, label in zip(folders, ascii_uppercase, strict=False)]
    if duplicates := [str(run.folder) for run in runs if sum(run.folder == other.folder for other in runs) > 1]:
        raise ConfigError("a run is given twice", found=duplicates[0], expected="different run directories")
    several = [name for name in ("model", "aggregation") if any(run.curves[name].nunique() > 1 for run in runs)]
    total = sum(len(run.curves) for run in runs)
    curves: list[dict[str, _RunCurve]] = []
    for run in runs:
        curves.append({})
        for row in run.curves.to_dict("records"):
            name = " x ".join(str(row[column]) for column in ("dataset", "strategy", *several))
            steps, correctness = rows_of(run.steps, row), read_correctness(run, row)
            curves[-1][name] = _RunCurve({str(key): value for key, value in row.items()}, steps, correctness)
            progress(sum(map(len, curves)), total)
    comparisons = [
        {"curve": name, "run": runs[0].label, "other_run": run.label, **row}
        for run, named in zip(runs[1:], curves[1:], strict=True)
        for name, curve in curves[0].items()
        if name in named
        for row in _compare_curves(curve, named[name])
    ]
    n_tests = _add_holm(comparisons)
    differs, same = _compare_settings(
        [_settings_of(run, _one_per_dataset(named)) for run, named in zip(runs, curves, strict=True)]
    )
    unmatched = {
        run.label: [name for name in named if sum(name in other for other in curves) == 1]
        for run, named in zip(runs, curves, strict=True)
    }
    return StudyComparison(runs, list(_curve_rows(runs, curves)), differs, same, comparisons, n_tests, unmatched)


def _one_per_dataset(curves: Mapping[str, _RunCurve]) -> dict[str, CurveCorrectness]:
    return {str(curve.row["dataset"]): curve.correctness for curve in reversed(list(curves.values()))}


def _curve_rows(runs: Sequence[FinishedRun], curves: Sequence[Mapping[str, _RunCurve]]) -> Iterator[Row]:
    """Yield the rows curve by curve, the same curve of all runs together."""
    for name in dict.fromkeys(name for named in curves for name in named):
        for run, named in zip(runs, curves, strict=True):
            if name in named:
                row, steps = named[name].row, named[name].steps
                (peak,) = steps[steps["scale"] == row["peak_scale"]].to_dict("records")
                band = {f"peak_change_{end}": float(peak[f"change_band_{end}"]) for end in ("low", "high")}
                yield {"run": run.label, "curve": name, **{key: row[key] for key in CURVE_COLUMNS}, **band}


def _compare_curves(first: _RunCurve, second: _RunCurve) -> Iterator[Row]:
    one, other = first.correctness, second.correctness
    last = max(set(one.scales) & set(other.scales))
    pairs = (1, 1), (last, last), (int(first.row["peak_scale"]), int(second.row["peak_scale"]))
    # if scale 1 is the last common scale, it is not repeated
    at = dict(zip(COMPARED_SCALES, pairs, strict=True))
    if last == 1:
        del at[COMPARED_SCALES[1]]
    rows = _paired(one, other, at) if one.images == other.images else _unpaired(first.steps, second.steps, at)
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


def _paired(first: CurveCorrectness, second: CurveCorrectness, at: ScalePairs) -> Iterator[Row]:
    """Yield the second curve minus the first at each pair of scales, on the same images in the same order."""
    one, other = (curve.at(*(pair[side] for pair in at.values())) for side, curve in enumerate((first, second)))
    steps = compare_with_control(list(range(len(at))), other, one).steps
    for index, ((name, pair), step) in enumerate(zip(at.items(), steps.to_dict("records"), strict=True)):
        accuracies = (float(one[:, :, index].mean()), float(other[:, :, index].mean()))
        numbers = {key: float(step[key]) for key in ("low", "high", "p")}
        flips = {side: None if pd.isna(step[side]) else int(step[side]) for side in ("gained", "lost")}
        yield {**_difference(name, pair, accuracies), "paired": True, **numbers, **flips}


def _unpaired(first: pd.DataFrame, second: pd.DataFrame, at: ScalePairs) -> Iterator[Row]:
    """Yield the second curve minus the first at each pair of scales, from the intervals in steps.parquet."""
    for name, pair in at.items():
        sides: list[Proportion] = []
        for steps, scale in zip((first, second), pair, strict=True):
            (row,) = steps[steps["scale"] == scale].to_dict("records")
            sides.append((float(row["accuracy"]), float(row["ci_low"]), float(row["ci_high"])))
        low, high = difference_interval(*sides)
        difference = _difference(name, pair, (sides[0][0], sides[1][0]))
        yield {**difference, "paired": False, "low": low, "high": high, **dict.fromkeys(("p", "gained", "lost"))}


def _difference(at: str, scales: tuple[int, int], accuracies: tuple[float, float]) -> Row:
    return {
        "at": at,
        "scale": scales[0],
        "other_scale": scales[1],
        "accuracy": accuracies[0],
        "other_accuracy": accuracies[1],
        "difference": accuracies[1] - accuracies[0],
    }


def _add_holm(rows: Sequence[Row]) -> int:
    """Add `p_holm` to all rows, Holm's p over all distinct paired tests; return the number of these tests.

    All strategies of a dataset share the test at scale 1, with the class names alone; a peak may be the last scale.
    """
    tests = {_test_key(row): row["p"] for row in rows if row["p"] is not None}
    adjusted = dict(zip(tests, holm(list(tests.values())).tolist(), strict=True))
    for row in rows:
        row["p_holm"] = None if row["p"] is None else adjusted[_test_key(row)]
    return len(tests)


def _test_key(row: Row) -> tuple[Any, ...]:
    scales = (row["scale"], row["other_scale"])
    shared = ("run", "other_run", "dataset", "model", "other_model", "p")
    names = ("strategy", "aggregation", "other_aggregation")
    return (*scales, *(row[name] for name in shared), *(() if scales == (1, 1) else (row[name] for name in names)))


def _settings_of(run: FinishedRun, correctness: Mapping[str, CurveCorrectness]) -> dict[str, str]:
    """Return the settings of a study by name, given the correctness of one curve per dataset."""
    study = run.study
    settings = {"semscale": str(run.environment.get("semscale", "unknown")), "models": ", ".join(study.models)}
    models = run.environment.get("models", {})
    for name in study.models:
        recorded = models.get(name, {})
        suffix = f" of {name}" if len(study.models) > 1 else ""
        for key in _MODEL_KEYS:
            if (value := recorded.get(key)) is not None:
                short = re.sub(r"^([0-9a-f]{12})[0-9a-f]{20,}$", r"\1", str(value))
                settings[f"{key.removesuffix('_sha256')}{suffix}"] = short
    settings["strategies"] = ", ".join(_entry(entry.model_dump(exclude_defaults=True)) for entry in study.strategies)
    for entry in study.datasets:
        values = {key: value for key, value in entry.model_dump(exclude_defaults=True).items() if key != "spec"}
        settings[f"dataset {mask_url(entry.title)}"] = mask_url(_entry({"spec": entry.spec, **values}))
    settings |= {key: _format(getattr(study, key)) for key in _SETTINGS}
    for name, curve in correctness.items():
        settings[f"images of {name}"] = f"{len(curve.images):,}, digest {curve.digest}"
    return settings


def _compare_settings(settings: Sequence[Mapping[str, str]]) -> tuple[dict[str, list[str | None]], list[str]]:
    """Return name -> value in each run of the settings that differ, and the names of the others."""
    names = list(dict.fromkeys(name for one in settings for name in one))
    values = {name: [one.get(name) for one in settings] for name in names}
    differs = {name: of_runs for name, of_runs in values.items() if len(set(of_runs)) > 1}
    return differs, [name for name in names if name not in differs]


def _same_sets(first: CurveCorrectness, second: CurveCorrectness, scale: int) -> bool:
    """Return whether two curves have the same categories at a common scale, in any order."""
    sets = [
        {name: sorted(texts) for name, texts in step.categories.items()}
        for curve in (first, second)
        for step in curve.ladder.steps
        if step.scale == scale
    ]
    return sets[0] == sets[1]


def _entry(values: Mapping[str, Any]) -> str:
    """Format an entry of a study file as one line: its first value, and the others in parentheses."""
    first, *others = values.items()
    more = [f"{key}: {_format(value)}" for key, value in others]
    return f"{first[1]} ({', '.join(more)})" if more else str(first[1])


def _format(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_format, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_format(item)}" for key, item in value.items())
    return "none" if value is None else str(value)
