"""The theoretical maximum of a ladder: what the best choice among the offered categories could reach."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from semscale.scoring.plan import Float32, Int32
from semscale.scoring.running import Needs, Running

NEEDS = Needs(maxima=True, minima=True)
"""What the running state must hold for :func:`within_reach`."""


def within_reach(running: Running, true_class: Int32) -> NDArray[np.bool_]:
    """Return which images some choice of the offered categories would label right, bool[rows].

    A choice keeps any subset of the categories of a step, at least one for every class (a class without a
    category could not be predicted at all, and dropping all rivals would make every image right). Under `max`
    aggregation the choice that favours the true class most keeps its own best category and of each other class
    only the worst one, so an image can be labelled right exactly when its best own similarity is above the
    largest of the other classes' smallest similarities. The choice may differ from image to image: this is
    the ceiling of every way of choosing, not a set that exists. It never falls along a nested ladder, and at
    scale 1 it is the accuracy itself, but for ties, which are no win here.

    Args:
        running: the state of a strip, of two classes or more; `minima` is changed for the time of the call.
        true_class: int32[rows].
    """
    rows = np.arange(len(true_class))
    floors = running.minima[: len(rows)]
    own_floor = floors[rows, true_class]
    floors[rows, true_class] = -np.inf
    rival_floor: Float32 = floors.max(axis=1)
    floors[rows, true_class] = own_floor
    return np.asarray(running.maxima[rows, true_class] > rival_floor, dtype=np.bool_)
