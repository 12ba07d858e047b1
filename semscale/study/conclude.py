"""Stage 4: what the trials of each curve say together, against its controls, and over datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from semscale.analysis.across import summarise_datasets
from semscale.analysis.control import addition_effects, compare_with_control
from semscale.analysis.curve import CurveSummary, conclude
from semscale.study.arms import Arm
from semscale.study.rundir import CURVE_KEY
from semscale.study.score import CurveKey as Curve
from semscale.study.score import ScoredLadder


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
        aggregations: aggregations.parquet, a row per curve of another than the study's first aggregation and scale:
            the paired difference to the first; the row without a scale is the mean over all steps after the first.
    """

    curves: pd.DataFrame
    steps: pd.DataFrame
    controls: pd.DataFrame
    across: pd.DataFrame
    additions: pd.DataFrame
    aggregations: pd.DataFrame

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables by file name; those that this study has nothing for are left out."""
        names = ("curves", "steps", "controls", "across", "additions", "aggregations")
        named = {name: getattr(self, name) for name in names}
        return {f"{name}.parquet": table for name, table in named.items() if len(table)}


def conclude_study(
    ladders: Sequence[ScoredLadder], arms: Sequence[Arm], margin: float, curve_runs: Mapping[Curve, str]
) -> Conclusions:
    """Draw the conclusions of a study.

    Args:
        ladders: the scored ladders of all curves and orders.
        arms: the datasets, which know the controls of their strategies.
        margin: gains below this do not count, as a fraction.
        curve_runs: MLflow run id by (dataset, model, strategy, aggregation).
    """
    orders: dict[Curve, list[ScoredLadder]] = {}
    for scored in ladders:
        orders.setdefault(scored.curve, []).append(scored)
    correct = {curve: np.stack([scored.right for scored in mine]) for curve, mine in orders.items()}
    summaries = {curve: conclude(mine[0].flat.scales, correct[curve], margin=margin) for curve, mine in orders.items()}
    steps = pd.concat(
        [summary.steps.assign(**dict(zip(CURVE_KEY, curve, strict=True))) for curve, summary in summaries.items()],
        ignore_index=True,
    )
    steps = steps[[*CURVE_KEY, *(name for name in steps.columns if name not in CURVE_KEY)]]
    controls = _against_controls(orders, correct, arms)
    labels = {(arm.dataset.name, label) for arm in arms for label in arm.controls.values()}
    return Conclusions(
        curves=pd.DataFrame(
            [
                _row(
                    orders[curve],
                    summary,
                    "control" if (curve[0], curve[2]) in labels else "strategy",
                    curve_runs[curve],
                )
                for curve, summary in summaries.items()
            ]
        ),
        steps=steps,
        controls=controls,
        across=_over_datasets(steps),
        additions=_additions(orders, correct),
        aggregations=_against_the_first(orders, correct),
    )


def _row(mine: Sequence[ScoredLadder], summary: CurveSummary, role: str, run_id: str) -> dict[str, Any]:
    first = mine[0]
    return {
        **dict(zip(CURVE_KEY, first.curve, strict=True)),
        "n_images": summary.n_images,
        "n_classes": len(first.ladder.classes),
        **summary.columns(),
        "ceiling": float(np.mean([scored.ceiling[:, -1].mean() for scored in mine])),
        "role": role,
        "mlflow_run_id": run_id,
    }


def _against_controls(
    orders: Mapping[Curve, Sequence[ScoredLadder]], correct: Mapping[Curve, npt.NDArray[np.bool_]], arms: Sequence[Arm]
) -> pd.DataFrame:
    pairs = {
        (arm.dataset.name, strategy, control): label
        for arm in arms
        for (strategy, control), label in arm.controls.items()
    }
    tables = []
    for curve, mine in orders.items():
        dataset, model, strategy, aggregation = curve
        for (of_dataset, of_strategy, _), label in pairs.items():
            control = (dataset, model, label, aggregation)
            if (of_dataset, of_strategy) != (dataset, strategy) or len(mine[0].flat.scales) < 2:
                continue
            place = {**dict(zip(CURVE_KEY, curve, strict=True)), "control": label}
            tables.append(_paired(mine[0].flat.scales, correct[curve], correct[control], place))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _against_the_first(
    orders: Mapping[Curve, Sequence[ScoredLadder]], correct: Mapping[Curve, npt.NDArray[np.bool_]]
) -> pd.DataFrame:
    first: dict[tuple[str, str, str], str] = {}
    tables = []
    for curve, mine in orders.items():
        dataset, model, strategy, aggregation = curve
        base = first.setdefault((dataset, model, strategy), aggregation)
        if base != aggregation and len(mine[0].flat.scales) > 1:
            place = {**dict(zip(CURVE_KEY, curve, strict=True)), "against": base}
            other = correct[dataset, model, strategy, base]
            tables.append(_paired(mine[0].flat.scales, correct[curve], other, place))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _paired(
    scales: Sequence[int], mine: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_], place: Mapping[str, str]
) -> pd.DataFrame:
    table = compare_with_control(scales, mine, other).table()
    return table.assign(**place)[[*place, *table.columns]]


def _over_datasets(steps: pd.DataFrame) -> pd.DataFrame:
    tables = []
    for place, mine in steps.groupby(list(CURVE_KEY[1:]), sort=False):
        if mine["dataset"].nunique() > 1 and mine["scale"].nunique() > 1:
            table = summarise_datasets(mine)
            for position, (name, value) in enumerate(zip(CURVE_KEY[1:], place, strict=True)):
                table.insert(position, name, str(value))
            tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _additions(
    orders: Mapping[Curve, Sequence[ScoredLadder]], correct: Mapping[Curve, npt.NDArray[np.bool_]]
) -> pd.DataFrame:
    tables = []
    for curve, mine in orders.items():
        # which step a category came at is only told apart from the category itself by several orders, step by step
        if len(mine) < 2 or any(np.diff([0, *scored.flat.scales]).max() > 1 for scored in mine):
            continue
        added = [list(scored.ladder.provenance.get(scored.ladder.classes[0], ())) for scored in mine]
        if any(len(names) != len(scored.flat.scales) for names, scored in zip(added, mine, strict=True)):
            continue
        tables.append(addition_effects(correct[curve], added).assign(**dict(zip(CURVE_KEY, curve, strict=True))))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
