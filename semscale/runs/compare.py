"""Comparison of finished studies: every later run against the first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

import pandas as pd

from semscale.errors import SemscaleError
from semscale.runs.finished import CurveAnswers, FinishedRun, read_answers, read_run
from semscale.runs.pairs import Row, compare_paired, compare_unpaired, compared_scales, correct_for_several
from semscale.runs.settings import compare_settings, same_sets, settings_of
from semscale.study.rundir import CURVE_KEY

_OF_CURVE = (
    *CURVE_KEY, "role", "n_images", "n_orders", "baseline", "peak", "peak_scale", "peak_change", "critical_scale",
    "critical_low", "critical_high", "trend",
)  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """What a comparison finds; accuracies and differences are shares.

    Attributes:
        runs: the runs, in the order in which they were given.
        curves: a row per curve and run: `run` (its letter), `curve` (its name), columns of curves.parquet, and the
            simultaneous 95 % interval of the change at the peak, `peak_change_low` and `peak_change_high`.
        differs: name of a setting -> its value in each run, where these differ; None where a run has no such thing.
        same: names of the settings that are the same in all runs.
        comparisons: a row per curve that is in the first and in another run, and per place: see :func:`compare`.
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
        return {
            "runs": [
                {"run": run.letter, "folder": str(run.folder), "study": run.study.name, "digest": run.study.digest()}
                for run in self.runs
            ],
            "curves": self.curves,
            "differs": {name: dict(zip(letters, values, strict=True)) for name, values in self.differs.items()},
            "same": self.same,
            "comparisons": self.comparisons,
            "n_tests": self.n_tests,
            "alone": self.alone,
        }


def compare(places: Sequence[str], progress: Callable[[int, int], None] = lambda done, total: None) -> Compared:
    """Put finished studies side by side.

    Curves of the same name are compared: dataset and strategy, with the model where a study has several, and the
    aggregation likewise. So studies of two models, or of two aggregations, meet in their curves. Each of the rows
    `comparisons` is the later run less the first one: `curve`, `run`, `other_run`, `at` (scale 1, the last common
    scale, the peak of each), `scale`, `other_scale`, `accuracy`, `other_accuracy`, `difference`, `low`, `high` (95 %),
    `paired`, `images`, `other_images`, `common_images`, `same_sets` (whether both offer the same categories at the last
    common scale). Where both have the same images (file names and true classes) the difference is paired, with
    `gained` and `lost` images (None with several orders), McNemar's `p`, and `p_holm` over all these tests; else these
    are None and the interval is that of two independent samples. A peak is chosen on the same images that it is
    measured on, so differences between peaks are told with that in mind.

    Args:
        places: two or more run directories, also in object stores.
        progress: is told how many of all curves are read.

    Raises:
        SemscaleError: fewer than two runs or one twice, or what :func:`semscale.runs.finished.read_run` and
            :func:`semscale.runs.finished.read_answers` refuse.
    """
    if not 2 <= len(places) <= len(ascii_uppercase):
        raise SemscaleError("a comparison needs two runs or more", found=", ".join(places) or "none")
    runs = [read_run(place, letter) for place, letter in zip(places, ascii_uppercase, strict=False)]
    twice = [str(run.folder) for run in runs if sum(run.folder == other.folder for other in runs) > 1]
    if twice:
        raise SemscaleError("a run stands here twice", found=twice[0], expected="different run directories")
    named = [_named(run, _name_columns(runs)) for run in runs]
    answers: list[dict[str, CurveAnswers]] = []
    total = sum(map(len, named))
    for run, mine in zip(runs, named, strict=True):
        answers.append({})
        for name, curve in mine.items():
            answers[-1][name] = read_answers(run, curve)
            progress(sum(map(len, answers)), total)
    comparisons = [
        row
        for other in range(1, len(runs))
        for name in named[0]
        if name in named[other]
        for row in _compared(name, runs[0], runs[other], *((named[i][name], answers[i][name]) for i in (0, other)))
    ]
    n_tests = correct_for_several(comparisons)
    differs, same = compare_settings(
        [settings_of(run, _one_per_dataset(mine, found)) for run, mine, found in zip(runs, named, answers, strict=True)]
    )
    return Compared(
        runs=runs,
        curves=list(_rows(runs, named)),
        differs=differs,
        same=same,
        comparisons=comparisons,
        n_tests=n_tests,
        alone={
            run.letter: [name for name in mine if sum(name in other for other in named) == 1]
            for run, mine in zip(runs, named, strict=True)
        },
    )


def _name_columns(runs: Sequence[FinishedRun]) -> list[str]:
    several = [name for name in ("model", "aggregation") if any(run.curves[name].nunique() > 1 for run in runs)]
    return ["dataset", "strategy", *several]


def _named(run: FinishedRun, columns: Sequence[str]) -> dict[str, Row]:
    rows = ({str(key): value for key, value in row.items()} for row in run.curves.to_dict("records"))
    return {" x ".join(str(row[name]) for name in columns): row for row in rows}


def _one_per_dataset(curves: dict[str, Row], answers: dict[str, CurveAnswers]) -> dict[str, CurveAnswers]:
    return {str(row["dataset"]): answers[name] for name, row in reversed(curves.items())}


def _compared(
    name: str,
    run: FinishedRun,
    other_run: FinishedRun,
    first: tuple[Row, CurveAnswers],
    second: tuple[Row, CurveAnswers],
) -> Iterator[Row]:
    (curve, answers), (other_curve, other_answers) = first, second
    places = compared_scales(answers, other_answers, (int(curve["peak_scale"]), int(other_curve["peak_scale"])))
    if answers.images == other_answers.images:
        rows = compare_paired(answers, other_answers, places)
    else:
        rows = compare_unpaired(_steps(run, curve), _steps(other_run, other_curve), places)
    last = max(set(answers.scales) & set(other_answers.scales))
    for row in rows:
        yield {
            "curve": name,
            "run": run.letter,
            "other_run": other_run.letter,
            "dataset": curve["dataset"],
            "strategy": curve["strategy"],
            **{key: curve[key] for key in ("model", "aggregation")},
            **{f"other_{key}": other_curve[key] for key in ("model", "aggregation")},
            "images": len(answers.images),
            "other_images": len(other_answers.images),
            "common_images": answers.common_images(other_answers),
            "same_sets": same_sets(answers, other_answers, last),
            **row,
        }


def _rows(runs: Sequence[FinishedRun], named: Sequence[dict[str, Row]]) -> Iterator[Row]:
    """Return the rows curve by curve, so that the same curve of all runs stands together."""
    for name in dict.fromkeys(name for mine in named for name in mine):
        for run, mine in zip(runs, named, strict=True):
            if name not in mine:
                continue
            steps = _steps(run, mine[name])
            (at_peak,) = steps[steps["scale"] == mine[name]["peak_scale"]].to_dict("records")
            yield {
                "run": run.letter,
                "curve": name,
                **{key: mine[name][key] for key in _OF_CURVE},
                "peak_change_low": float(at_peak["change_band_low"]),
                "peak_change_high": float(at_peak["change_band_high"]),
            }


def _steps(run: FinishedRun, curve: Row) -> pd.DataFrame:
    return run.steps[(run.steps[list(CURVE_KEY)] == [curve[name] for name in CURVE_KEY]).all(axis=1)]
