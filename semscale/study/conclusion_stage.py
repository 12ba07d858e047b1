"""Stage 4, conclude: statistics of each curve, comparisons with its controls, and summaries over datasets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from semscale.analysis.control import addition_effects, compare_with_control
from semscale.analysis.curve import CurveSummary, conclude
from semscale.analysis.meta_analysis import summarise_datasets
from semscale.report.headlines import CURVE_KEY
from semscale.study.arms import Arm
from semscale.study.run_directory import concatenate, with_key
from semscale.study.scoring_stage import CurveKey, ScoredLadder

Orders = Mapping[CurveKey, Sequence[ScoredLadder]]
Correct = Mapping[CurveKey, npt.NDArray[np.bool_]]


@dataclass(frozen=True)
class Conclusions:
    """The tables of stage 4.

    Attributes:
        curves: curves.parquet, a row per curve.
        steps: steps.parquet, a row per curve and scale, with intervals, bands and tests.
        controls: controls.parquet, a row per curve, control and scale: the paired difference at equal counts; the
            row without a scale is the mean over all steps after the first.
        across: across.parquet, a row per model, strategy, aggregation and scale: the mean change over datasets.
        additions: additions.parquet, a row per curve and added category: its effect over the orders.
        aggregations: aggregations.parquet, a row per scale and curve of any aggregation but the study's first: the
            paired difference to the first; the row without a scale is the mean over all steps after the first.
    """

    curves: pd.DataFrame
    steps: pd.DataFrame
    controls: pd.DataFrame
    across: pd.DataFrame
    additions: pd.DataFrame
    aggregations: pd.DataFrame

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables that are not empty by file name."""
        return {f"{name}.parquet": table for name, table in vars(self).items() if len(table)}


def conclude_study(
    ladders: Sequence[ScoredLadder], arms: Sequence[Arm], margin: float, curve_runs: Mapping[CurveKey, str]
) -> Conclusions:
    """Return the conclusions of a study.

    `margin` is the smallest gain that counts, as a fraction; `curve_runs` maps curves to MLflow run ids.
    """
    orders: dict[CurveKey, list[ScoredLadder]] = {}
    for scored in ladders:
        orders.setdefault(scored.curve, []).append(scored)
    correct = {curve: np.stack([scored.right for scored in orders[curve]]) for curve in orders}
    summaries = {curve: conclude(orders[curve][0].flat.scales, correct[curve], margin=margin) for curve in orders}
    rows = [_curve_row(orders[curve], arms, summary, curve_runs[curve]) for curve, summary in summaries.items()]
    steps = concatenate(with_key(summary.steps, curve) for curve, summary in summaries.items())
    return Conclusions(
        curves=pd.DataFrame(rows),
        steps=steps,
        controls=concatenate(_against_controls(orders, correct, arms)),
        across=concatenate(_over_datasets(steps)),
        additions=concatenate(_additions(orders, correct)),
        aggregations=concatenate(_against_first_aggregation(orders, correct)),
    )


def _curve_row(orders: list[ScoredLadder], arms: Sequence[Arm], summary: CurveSummary, run_id: str) -> dict[str, Any]:
    first = orders[0]
    controls = {(arm.dataset.name, label) for arm in arms for label in arm.controls.values()}
    return {
        **dict(zip(CURVE_KEY, first.curve, strict=True)),
        "n_images": summary.n_images,
        "n_classes": len(first.ladder.classes),
        **summary.columns(),
        "ceiling": float(np.mean([scored.scores.ceiling[:, -1].mean() for scored in orders])),
        "role": "control" if (first.ladder.dataset, first.ladder.strategy) in controls else "strategy",
        "mlflow_run_id": run_id,
    }


def _against_controls(orders: Orders, correct: Correct, arms: Sequence[Arm]) -> Iterator[pd.DataFrame]:
    controls = [(arm.dataset.name, strategy, label) for arm in arms for (strategy, _), label in arm.controls.items()]
    for dataset, model, strategy, aggregation in orders:
        for label in [label for *key, label in controls if key == [dataset, strategy]]:
            curve, other = (dataset, model, strategy, aggregation), (dataset, model, label, aggregation)
            yield from _paired(orders, correct, curve, other, control=label)


def _against_first_aggregation(orders: Orders, correct: Correct) -> Iterator[pd.DataFrame]:
    base = next(iter(orders))[-1]  # every ladder is scored under all aggregations
    for curve in orders:
        if curve[-1] != base:
            yield from _paired(orders, correct, curve, (*curve[:3], base), against=base)


def _paired(orders: Orders, correct: Correct, curve: CurveKey, other: CurveKey, **label: str) -> Iterator[pd.DataFrame]:
    scales = orders[curve][0].flat.scales
    if len(scales) > 1:
        yield with_key(compare_with_control(scales, correct[curve], correct[other]).table(), curve, **label)


def _over_datasets(steps: pd.DataFrame) -> Iterator[pd.DataFrame]:
    for key, group in steps.groupby(list(CURVE_KEY[1:]), sort=False):
        if group["dataset"].nunique() > 1 and group["scale"].nunique() > 1:
            table = summarise_datasets(group)
            yield table.assign(**dict(zip(CURVE_KEY[1:], map(str, key), strict=True)))[[*CURVE_KEY[1:], *table.columns]]


def _additions(orders: Orders, correct: Correct) -> Iterator[pd.DataFrame]:
    for curve, ladders in orders.items():
        # the effect of a category and that of its step are separable only over several orders with steps of one
        if len(ladders) < 2 or any(np.diff([0, *scored.flat.scales]).max() > 1 for scored in ladders):
            continue
        added = [list(scored.ladder.provenance.get(scored.ladder.classes[0], ())) for scored in ladders]
        if all(len(names) == len(scored.flat.scales) for names, scored in zip(added, ladders, strict=True)):
            yield addition_effects(correct[curve], added).assign(**dict(zip(CURVE_KEY, curve, strict=True)))
