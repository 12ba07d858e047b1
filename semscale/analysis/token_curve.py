"""Token curve: accuracy over the levels of a token ladder, with its critical budget and paired controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from semscale.analysis.answer_patterns import Bool, CorrectnessPatterns, Float64, count_patterns
from semscale.analysis.bootstrap import REPLICATES
from semscale.analysis.contrasts import MARGIN, Contrasts, Trend, classify_trend, contrasts, critical_scale
from semscale.analysis.control import PairedComparison, compare_with_control
from semscale.analysis.curve import shared_conclusions, step_table
from semscale.analysis.intervals import holm
from semscale.analysis.paired_effects import paired_effects, resample_sources, with_sources
from semscale.analysis.peak import find_peak


@dataclass(frozen=True)
class CriticalBudget:
    """The critical budget of a token curve with its 95 % interval.

    Attributes:
        level: position in the ladder of the smallest budget shown to be enough; None where only the largest budget
            would be, which has no larger one: accuracy declines at once, or there are too few images.
        budget: the budget of that level, or None.
        low, high: the interval; `high` at the largest budget means that none of the smaller ones may be enough.
    """

    level: int | None
    budget: float | None
    low: float
    high: float


def critical_budget(
    budgets: Sequence[float], patterns: CorrectnessPatterns, curves: Float64, margin: float = MARGIN
) -> CriticalBudget:
    """Return the smallest budget after which no larger one has a true accuracy better by more than the margin.

    The rule and the interval of :func:`semscale.analysis.contrasts.critical_scale`, on the levels in ascending order of
    budget. Of equal budgets the one farther down the ladder counts as the smaller.

    Args:
        budgets: the L budgets of the levels, in any order and unit.
        patterns: the correctness of n images at the L levels.
        curves: float64[B, L], replicates of :func:`semscale.analysis.paired_effects.resample_sources`.
        margin: smallest change of interest, a share.

    >>> from semscale.analysis.bootstrap import resample
    >>> patterns = count_patterns(np.arange(2000)[:, None] < np.array([1281, 1280, 1260, 1200]))
    >>> critical_budget([197, 99, 50, 20], patterns, resample(patterns))
    CriticalBudget(level=1, budget=99.0, low=50.0, high=99.0)
    """
    order = sorted(range(len(budgets)), key=lambda level: (budgets[level], -level))
    ascending = CorrectnessPatterns(patterns.rows[:, :, order], patterns.counts)
    found = critical_scale(range(len(order)), _not_narrower(contrasts(ascending, curves[:, order])), margin)
    level = None if found.scale is None else order[found.scale]
    budget = None if level is None else float(budgets[level])
    return CriticalBudget(level, budget, *(float(budgets[order[end]]) for end in (found.low, found.high)))


def _not_narrower(pairwise: Contrasts) -> Contrasts:
    """Return contrasts whose simultaneous bands are nowhere narrower than pointwise intervals of the same confidence.

    Where a few images decide, or all levels agree on every image, the replicates hardly vary, and their bands would be
    certain of what so few images cannot show. So their largest deviations are made no smaller than the absolute values
    of one normal deviate, quantile by quantile.
    """
    replicates = len(pairwise.max_deviation)
    shares = np.minimum(np.arange(replicates) / (replicates - 1), 1 - 0.5 / replicates)
    normal = ndtri(0.5 + shares / 2)
    deviations = pairwise.max_deviation, pairwise.max_deviation_from_first
    wider = (np.maximum(np.sort(deviation), normal) for deviation in deviations)
    return Contrasts(pairwise.change, pairwise.centre, pairwise.error, *wider)


@dataclass(frozen=True)
class TokenCurveSummary:
    """The conclusions of one token curve; accuracies are shares from 0 to 1, changes are differences of shares.

    Attributes:
        n_images, n_orders, n_seeds: images of every level, orders of the categories, and seeds of a random control;
            accuracies are means over orders and seeds, and the intervals include the variance between them.
        baseline: accuracy of the unmodified tower with its 95 % interval (Wilson).
        peak, peak_budget: highest accuracy and the budget of the first level of the ladder that reaches it.
        peak_change: peak - baseline; never negative, and as a maximum over levels biased upwards.
        peak_change_corrected, peak_p: see :class:`semscale.analysis.peak.Peak`.
        final, final_change: accuracy at the last level, and its difference to the baseline with its paired 95 %
            interval.
        critical_budget, critical_level, critical_low, critical_high: see :class:`CriticalBudget`.
        cochran_p: p of Cochran's Q, the test of equal accuracies at all levels.
        trend: see :func:`semscale.analysis.contrasts.classify_trend`, along the ladder from the unmodified tower: where
            only accuracy is lost it is `decline`.
        ever_correct: share of images labelled correctly at one level at least (in any order, for any seed).
        levels: a row per level, see :func:`level_table`.
    """

    n_images: int
    n_orders: int
    n_seeds: int
    baseline: float
    baseline_ci_low: float
    baseline_ci_high: float
    peak: float
    peak_budget: float
    peak_change: float
    peak_change_corrected: float
    peak_p: float
    final: float
    final_change: float
    final_change_low: float
    final_change_high: float
    critical_budget: float | None
    critical_level: int | None
    critical_low: float
    critical_high: float
    cochran_p: float
    trend: Trend
    ever_correct: float
    levels: pd.DataFrame

    def columns(self) -> dict[str, Any]:
        """Return everything but the table of levels, for a row of a table of token curves."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "levels"}


def conclude_tokens(
    budgets: Sequence[float], correct: Bool, margin: float = MARGIN, replicates: int = REPLICATES, seed: int = 0
) -> TokenCurveSummary:
    """Return the conclusions of a token curve.

    Args:
        budgets: the L budgets of the levels in tokens, multiply-adds or bytes, the unmodified tower first; they
            usually decrease, and increase where tokens are added.
        correct: whether each image is labelled correctly at each level, the same images at all levels: bool[n, L];
            bool[K, n, L] for K seeds of a random control; or bool[O, K, n, L] for O orders of the categories as well.
        margin: smallest change of interest, a share.
        replicates: of the bootstrap and of the permutations.
        seed: of the generator; the result is deterministic.

    Raises:
        ValueError: no image or level, the shapes do not match, or a budget is not positive and finite.

    >>> correct = np.arange(1000)[:, None] < np.array([800, 800, 700])
    >>> summary = conclude_tokens([197, 99, 50], correct)
    >>> summary.baseline, summary.final, summary.trend, summary.critical_budget, summary.critical_level
    (0.8, 0.7, 'decline', 99.0, 1)
    """
    _check(budgets)
    rows = with_sources(correct, len(budgets))
    curves = resample_sources([rows], replicates, seed)[0]
    patterns = count_patterns(rows.reshape(-1, *rows.shape[2:]))
    pairwise = _not_narrower(contrasts(patterns, curves))
    levels = level_table(budgets, patterns, curves, pairwise)
    # another stream than the bootstrap's, or permutations and replicates would share their draws
    peak = find_peak(patterns, curves, replicates, seed + 1)
    critical = critical_budget(budgets, patterns, curves, margin)
    sources = (1, 1, *np.shape(correct)[:-2])[-2:]
    return TokenCurveSummary(
        **shared_conclusions(patterns, levels, peak),
        n_orders=sources[0],
        n_seeds=sources[1],
        peak_budget=float(levels["budget"].iloc[peak.step]),
        critical_budget=critical.budget,
        critical_level=critical.level,
        critical_low=critical.low,
        critical_high=critical.high,
        trend=classify_trend(pairwise, margin),
        levels=levels,
    )


def level_table(
    budgets: Sequence[float], patterns: CorrectnessPatterns, curves: Float64, pairwise: Contrasts
) -> pd.DataFrame:
    """Return a row per level.

    Columns: level (position in the ladder), budget and share (of the unmodified tower's budget); the others are those
    of :func:`semscale.analysis.curve.step_table` for steps that are levels: accuracy with interval and band, change
    from the unmodified tower with interval and band, gained and lost images with mcnemar_p and mcnemar_p_holm, and the
    same against the level before, prefixed with `previous_`.
    """
    table = step_table(range(len(budgets)), patterns, curves, pairwise).rename(columns={"scale": "level"})
    sizes = np.asarray(budgets, np.float64)
    table.insert(1, "budget", sizes)
    table.insert(2, "share", sizes / sizes[0])
    return table


def compare_with_controls(
    budgets: Sequence[float], correct: Bool, controls: Mapping[str, Bool], replicates: int = REPLICATES, seed: int = 0
) -> pd.DataFrame:
    """Return the paired difference of a token strategy to each of its controls at equal budgets.

    Intervals and tests of one arm each are :func:`semscale.analysis.control.compare_with_control`; seeds are drawn for
    each arm, while orders of the categories are the same in both and drawn once.

    Args:
        budgets: the L budgets of the levels, the unmodified tower first.
        correct: correctness of the token strategy, as in :func:`conclude_tokens`.
        controls: correctness of each control, of the same images at the same levels, by name; the number of seeds is
            its own.
        replicates, seed: of the bootstrap.

    Returns:
        A row per control and level: control, level (position in the ladder), budget, difference (accuracy of the
        strategy less that of the control), low, high (95 %, pointwise), band_low, band_high (95 %, simultaneous over
        levels), gained (images correct with the strategy only), lost (with the control only; both None with several
        orders or seeds), p (two-sided; exact McNemar without orders and seeds) and p_holm (over levels). Before them a
        row without a level: the mean over all levels after the unmodified tower.

    Raises:
        ValueError: a control differs in images, orders or levels, or already at the unmodified tower, which is the same
            in both: the images are not in the same order.

    >>> i = np.arange(1000)[:, None]
    >>> strategy, random = i < np.array([700, 690]), np.stack([i < np.array([700, 640]), i < np.array([700, 650])])
    >>> table = compare_with_controls([197, 99], strategy, {"random": random})
    >>> table[["control", "level", "difference"]].round(3).values.tolist()
    [['random', <NA>, 0.045], ['random', 0, 0.0], ['random', 1, 0.045]]
    """
    _check(budgets)
    sizes = dict(enumerate(np.asarray(budgets, np.float64)))
    arm = with_sources(correct, len(budgets))
    tables = [pd.DataFrame(columns=["control", "level", "budget"])]
    for name, control in controls.items():
        table = _compare(arm, with_sources(control, len(budgets)), name, replicates, seed).table()
        table = table.rename(columns={"scale": "level"})
        table.insert(0, "control", name)
        table.insert(2, "budget", table["level"].map(sizes))
        tables.append(table)
    return pd.concat(tables[1:] or tables, ignore_index=True)


def _compare(arm: Bool, control: Bool, name: str, replicates: int, seed: int) -> PairedComparison:
    """Compare bool[O, K, n, L] of an arm and of its control."""
    n, levels = arm.shape[2:]
    if control.shape[2] != n or len({1, len(arm), len(control)}) > 2:
        raise ValueError(f"expected control {name!r} on the same {n} images in the same {len(arm)} orders")
    if (arm[:, :1, :, 0] != control[:, :1, :, 0]).any():
        raise ValueError(f"expected control {name!r} to begin with the same predictions of the unmodified tower")
    if len(arm) == len(control) == 1:
        return compare_with_control(range(levels), arm[0], control[0], replicates, seed)
    # compare_with_control draws orders for each arm, as if they were not the same ones
    curves = np.subtract(*resample_sources([arm, control], replicates, seed))
    difference = arm.mean(axis=(0, 1, 2)) - control.mean(axis=(0, 1, 2))
    found = paired_effects(difference, curves, n)
    after = slice(min(1, levels - 1), None)
    mean = paired_effects(difference[after].mean(keepdims=True), curves[:, after].mean(axis=1, keepdims=True), n)
    steps = {"scale": range(levels), "difference": difference, **found.columns(), "gained": None, "lost": None}
    (low,), (high,) = mean.pointwise()
    table = pd.DataFrame({**steps, "p_holm": holm(found.p)})
    return PairedComparison(float(mean.estimate[0]), float(low), float(high), float(mean.p[0]), table)


def _check(budgets: Sequence[float]) -> None:
    sizes = np.asarray(budgets, np.float64)
    if not np.isfinite(sizes).all() or (sizes <= 0).any():
        raise ValueError(f"expected positive, finite budgets, but got {list(budgets)}")
