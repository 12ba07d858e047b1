"""One word for the shape of a curve, by a written rule on the band of its changes."""

from __future__ import annotations

from typing import Literal

import numpy as np

from semscale.analysis.contrasts import Contrasts
from semscale.analysis.critical import MARGIN
from semscale.analysis.patterns import Bool

Trend = Literal["rise", "rise-plateau", "rise-decline", "decline", "flat", "fluctuating"]

TREND_CONFIDENCE = 0.98
"""Of the band: a curve whose accuracy never changes is called something else in about 2 of 100 studies."""


def name_trend(found: Contrasts, margin: float = MARGIN, confidence: float = TREND_CONFIDENCE) -> Trend:
    """Return the word for the shape of a curve.

    The band holds for the changes between all pairs of steps at once. A step j is *surely above* an earlier
    step i when the band of that change lies above 0 and reaches the margin, so that it is neither chance nor
    shown to be too small to matter; *surely below* likewise. The first rule that holds decides:

    1. `fluctuating`: a sure fall is followed by a sure rise (i < j < k with j surely below i, k surely above j);
    2. `rise-decline`: a sure rise is followed by a sure fall;
    3. `rise`: there is a sure rise, also between two steps of the second half of the ladder;
    4. `rise-plateau`: there is a sure rise, but none in the second half;
    5. `decline`: there is a sure fall;
    6. `flat`: nothing is sure.

    The second half starts at the middle step, of an even number the earlier one; with two steps it is the
    whole ladder. `flat` is what cannot be told from no change: look at the width of the band.

    Args:
        found: the changes between all pairs of steps.
        margin: as a share.
        confidence: of the band.
    """
    low, high = found.band(confidence)
    later = np.triu(np.ones(low.shape, dtype=bool), 1)
    up: Bool = (low > 0) & (high >= margin) & later
    down: Bool = (high < 0) & (low <= -margin) & later
    if (down.any(axis=0) & up.any(axis=1)).any():
        return "fluctuating"
    if (up.any(axis=0) & down.any(axis=1)).any():
        return "rise-decline"
    middle = (len(low) - 1) // 2
    if up[middle:, middle:].any():
        return "rise"
    if up.any():
        return "rise-plateau"
    return "decline" if down.any() else "flat"
