"""Which categories come at which step: the seeded order of the equivalents and the scales of the steps."""

from __future__ import annotations

import hashlib
from typing import Literal

from semscale.errors import SemscaleError

Scales = Literal["linear", "exponential"]


def positions(count: int, order: int) -> list[int]:
    """Return the order in which the places of a list are offered; place 0, the class name, comes first.

    Order 0 is the strategy's own. Order k > 0 sorts the other places by the SHA-256 of "k:place". Every class
    uses the same permutation, so that a step adds the same template to all of them and steps stay comparable.
    A hash rather than a random generator: it is the same in every version of every library, and a longer list
    only slips its new places in between.

    Raises:
        SemscaleError: when the order is negative.

    >>> positions(5, 0), positions(5, 1)
    ([0, 1, 2, 3, 4], [0, 4, 2, 3, 1])
    """
    if order < 0:
        raise SemscaleError(
            "an order is a number from 0 on", found=str(order), expected="0 for the strategy's own order"
        )
    places = list(range(1, count))
    if order > 0:
        places.sort(key=lambda place: hashlib.sha256(f"{order}:{place}".encode()).digest())
    return [0, *places] if count else []


def step_scales(steps: int, available: int, scales: Scales, where: str) -> list[int]:
    """Return the scale (categories per class) of each step.

    Args:
        steps: how many steps are asked for.
        available: how many categories every class has.
        scales: `linear` is 1, 2, 3, ...: exactly `steps` of them. `exponential` is 1, 2, 4, 8, ...: as many
            as are available, at most `steps`.
        where: what the ladder belongs to, for the message.

    Raises:
        SemscaleError: for fewer than one step, for more linear steps than there are, and for unknown scales.

    >>> step_scales(3, 12, "linear", "demo"), step_scales(12, 12, "exponential", "demo")
    ([1, 2, 3], [1, 2, 4, 8])
    """
    if steps < 1:
        raise SemscaleError(
            "a ladder needs at least one step", where=where, found=f"steps = {steps}", expected="1 or more"
        )
    if scales not in ("linear", "exponential"):
        raise SemscaleError("unknown scales", where=where, found=repr(scales), expected="linear, exponential")
    if available < 1 or (scales == "linear" and steps > available):
        raise SemscaleError(
            "more steps than the strategy has",
            where=where,
            found=f"steps = {steps}",
            expected=f"at most {available}",
            hint=f"ask for {available} steps or fewer, or take another strategy" if available else None,
        )
    if scales == "exponential":
        return [2**k for k in range(steps) if 2**k <= available]
    return list(range(1, steps + 1))
