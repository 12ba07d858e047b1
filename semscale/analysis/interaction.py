"""Interaction of categories and visual tokens: whether more categories recover the accuracy that fewer tokens lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from semscale.analysis.answer_patterns import Bool
from semscale.analysis.bootstrap import REPLICATES
from semscale.analysis.paired_effects import paired_effects, resample_sources, with_sources


@dataclass(frozen=True)
class Interaction:
    """Interaction of tokens and scale: the share of each level's loss that returns from the first scale to the last.

    Attributes:
        n_images: images of every accuracy.
        gain_unmodified: accuracy of the unmodified tower at the last scale less that at the first.
        level: the level with the largest studentised recovery, upwards or downwards; None where the unmodified tower
            is the only one.
        p: of the joint test of no recovery at any level, see :func:`conclude_interaction`; 1 where there is no level.
        levels: a row per level after the unmodified tower: level (its position in the ladder), budget, change_first
            and change_last (accuracy less that of the unmodified tower, at the first and at the last scale), gain (from
            the first scale to the last), recovered (change_last - change_first, which is gain - gain_unmodified) with
            low, high (95 %, paired, pointwise) and band_low, band_high (95 %, simultaneous), p of the level alone and
            p_max_t, adjusted for all levels.
    """

    n_images: int
    gain_unmodified: float
    level: int | None
    p: float
    levels: pd.DataFrame

    def columns(self) -> dict[str, Any]:
        """Return everything but the table of levels, for a row of a table of interactions."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "levels"}


def conclude_interaction(
    budgets: Sequence[float], first: Bool, last: Bool, replicates: int = REPLICATES, seed: int = 0
) -> Interaction:
    """Test whether going from the first scale to the last recovers what the levels of a token ladder lost.

    The recovery of level v is a difference of differences, (acc[last, v] - acc[first, v]) - (acc[last, 0] -
    acc[first, 0]), positive where more categories help the level more than they help the unmodified tower. It is the
    mean of a contrast of four predictions for each image, from -2 to 2, so it is paired over images, levels and scales.
    It says what is recovered only of a level that lost something, and where accuracy is at chance at both scales it is
    minus the gain of the unmodified tower.

    The test over all levels is a max-t test of these contrasts: the statistic is the largest absolute studentised
    recovery, its distribution that of the largest studentised deviation in the replicates (T. Hothorn, F. Bretz and P.
    Westfall, "Simultaneous inference in general parametric models", Biometrical Journal 50 (2008), 346-363). A Wald
    test (Hotelling's T^2) of the same contrasts has to invert their covariance, which neighbouring levels that agree on
    nearly all images make singular, and spends a degree of freedom on every level, though levels of one ladder recover
    together. The max-t test needs no inverse, names the level, has orders and seeds in its null by way of the
    replicates, and agrees with what is drawn: p <= 0.05 only where the simultaneous band excludes 0 at some level.

    Args:
        budgets: the L budgets of the levels, the unmodified tower first.
        first, last: correctness at the first and at the last scale, of the same images: bool[n, L]; bool[K, n, L] for K
            seeds of a random control; or bool[O, K, n, L] for O orders of the categories as well. Both scales have the
            same orders and seeds; an axis of length 1 is repeated.
        replicates, seed: of the bootstrap.

    Raises:
        ValueError: no image or level, or the shapes do not match.

    >>> i = np.arange(1000)[:, None]
    >>> found = conclude_interaction([197, 99], first=i < np.array([700, 600]), last=i < np.array([720, 680]))
    >>> row = found.levels.iloc[0]
    >>> row[["change_first", "change_last", "recovered", "low", "high"]].round(3).tolist(), found.p < 0.001
    ([-0.1, -0.04, 0.06, 0.04, 0.079], True)
    """
    scales = [with_sources(correct, len(budgets)) for correct in (first, last)]
    shapes = [scale.shape for scale in scales]
    if shapes[0][2] != shapes[1][2] or any(len({1, *axis}) > 2 for axis in zip(*shapes, strict=True)):
        found = [list(shape) for shape in shapes]
        raise ValueError(f"expected both scales with the same images, orders and seeds, but got {found}")
    orders, seeds, n, levels = np.broadcast_shapes(*shapes)
    both = np.concatenate([np.broadcast_to(scale, (orders, seeds, n, levels)) for scale in scales], axis=3)
    accuracy = both.mean(axis=(0, 1, 2))
    squares = None
    if orders == seeds == 1:
        squares = (_recovery(both[0, 0].astype(np.int8)) ** 2).sum(axis=0, dtype=np.float64)
    curves = resample_sources([both], replicates, seed)[0]
    effects = paired_effects(_recovery(accuracy), _recovery(curves), n, squares)
    at_first, at_last = accuracy[:levels], accuracy[levels:]
    table = pd.DataFrame(
        {
            "level": np.arange(1, levels),
            "budget": np.asarray(budgets, np.float64)[1:],
            "change_first": at_first[1:] - at_first[0],
            "change_last": at_last[1:] - at_last[0],
            "gain": (at_last - at_first)[1:],
            "recovered": effects.estimate,
            **effects.columns(),
            "p_max_t": effects.p_max_t,
        }
    )
    return Interaction(
        n_images=n,
        gain_unmodified=float(at_last[0] - at_first[0]),
        level=1 + int((np.abs(effects.centre) / effects.error).argmax()) if levels > 1 else None,
        p=float(effects.p_max_t.min(initial=1.0)),
        levels=table,
    )


def _recovery(correct: NDArray[Any]) -> NDArray[Any]:
    """Return differences of differences, [..., L - 1], of [..., 2 L]: L levels at the first scale, then at the last."""
    levels = correct.shape[-1] // 2
    gain = correct[..., levels:] - correct[..., :levels]
    return np.asarray(gain[..., 1:] - gain[..., :1])
