"""Re-scoring folders of predictions: a table of steps and a table of curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semscale.analysis.critical import MARGIN
from semscale.analysis.curve import conclude
from semscale.analysis.intervals import wilson_interval
from semscale.replay.ladders import ReplayLadder, read_published_ladder
from semscale.replay.rescore import Rescored, read_predictions, rescore
from semscale.replay.sources import Source, find_sources

Row = dict[str, Any]


@dataclass(frozen=True)
class Replay:
    """What re-scoring gives; every accuracy is in percent and every change in points, as such studies print them.

    Attributes:
        steps: a row per step, in the order of the ladder: dataset, family, n_categories, scale, n_images,
            correct, accuracy, ci_low, ci_high (95 %, Wilson), published_accuracy, difference (accuracy less
            published), usable, issue, unknown (predicted texts that were not offered, with their images).
        curves: a row per curve, from its usable steps and the images that have a prediction at all of them:
            dataset, family, n_images, n_steps, baseline, peak, peak_n_categories, peak_change, peak_p,
            peak_change_corrected, final_change, critical_scale, critical_low, critical_high, trend. All None
            after n_steps where no step is usable or no image has them all.
    """

    steps: list[Row]
    curves: list[Row]


def replay(
    paths: Sequence[Path], margin: float = MARGIN, progress: Callable[[int, int], None] = lambda done, total: None
) -> Replay:
    """Re-score all predictions under the given folders.

    Args:
        paths: folders with `ladder.json` and `predictions.parquet`, run directories, or folders of such.
        margin: changes below this share are of no interest.
        progress: is told how many of the curves are done.

    Raises:
        SemscaleError: for a folder without predictions, and for files that cannot be read or do not fit.
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


def _family(ladder: ReplayLadder, source: Source, several_models: bool) -> str:
    model = source.model if several_models else ""
    beside = ", ".join(filter(None, (model, source.aggregation)))
    return f"{ladder.family} ({beside})" if beside else ladder.family


def _step_row(answer: Rescored) -> Row:
    step = answer.step
    n, right = int(answer.present.sum()), int(answer.correct.sum())
    accuracy = low = high = difference = None
    if n:
        accuracy = 100 * right / n
        low, high = (100 * float(end) for end in wilson_interval(right, n))
        if step.published_accuracy is not None:
            difference = accuracy - step.published_accuracy
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


def _curve_row(answers: Sequence[Rescored], margin: float) -> Row:
    usable = [answer for answer in answers if answer.step.usable]
    shared = np.logical_and.reduce([answer.present for answer in usable]) if usable else np.zeros(0, np.bool_)
    row: Row = {"n_images": int(shared.sum()), "n_steps": len(usable)}
    if not shared.any():
        words = "baseline peak peak_n_categories peak_change peak_p peak_change_corrected final_change"
        return row | dict.fromkeys([*words.split(), "critical_scale", "critical_low", "critical_high", "trend"], None)
    correct = np.column_stack([answer.correct[shared] for answer in usable])
    summary = conclude([answer.step.scale for answer in usable], correct, margin)
    return row | {
        "baseline": 100 * summary.baseline,
        "peak": 100 * summary.peak,
        "peak_n_categories": usable[int(correct.sum(axis=0).argmax())].step.n_categories,
        "peak_change": 100 * summary.peak_change,
        "peak_p": summary.peak_p,
        "peak_change_corrected": 100 * summary.peak_change_corrected,
        "final_change": 100 * summary.final_change,
        "critical_scale": summary.critical_scale,
        "critical_low": summary.critical_low,
        "critical_high": summary.critical_high,
        "trend": summary.trend,
    }
