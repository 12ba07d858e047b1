"""Which categories come at which step: the seeded order of the equivalents and the scales of the steps."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from semscale.errors import SemscaleError

Scales = Literal["linear", "exponential"] | Sequence[int]


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


def check_orders(orders: Sequence[int]) -> None:
    """Refuse an empty list of orders, and an order that stands there twice.

    Raises:
        SemscaleError: naming the order.
    """
    if not orders:
        raise SemscaleError("at least one order is needed", expected="0 for the strategy's own order")
    for order in orders:
        if list(orders).count(order) > 1:
            raise SemscaleError("an order stands there twice", found=str(order), expected="different orders")


def step_scales(steps: int, available: int, scales: Scales, where: str, hint: str | None = None) -> list[int]:
    """Return the scale (categories per class) of each step.

    Args:
        steps: how many steps are asked for; a list of scales says it itself.
        available: how many categories every class has.
        scales: `linear` is 1, 2, 3, ...: exactly `steps` of them. `exponential` is 1, 2, 4, 8, ...: as many
            as are available, at most `steps`. A list is taken as it is.
        where: what the ladder belongs to, for the message.
        hint: what to do when there are too few categories.

    Raises:
        SemscaleError: for fewer than one step, for more than are available, for unknown scales, and for a list that
            does not begin with 1 and rise.

    >>> step_scales(3, 12, "linear", "demo"), step_scales(12, 12, "exponential", "demo")
    ([1, 2, 3], [1, 2, 4, 8])
    >>> step_scales(12, 12, [1, 3, 12], "demo")
    [1, 3, 12]
    """
    if isinstance(scales, str):
        if scales not in ("linear", "exponential"):
            expected = "linear, exponential or a list of whole numbers"
            raise SemscaleError("unknown scales", where=where, found=repr(scales), expected=expected)
        if steps < 1:
            raise SemscaleError(
                "a ladder needs at least one step", where=where, found=f"steps = {steps}", expected="1 or more"
            )
        if scales == "exponential" and available >= 1:
            return [2**k for k in range(steps) if 2**k <= available]
        asked = list(range(1, steps + 1))
        found = f"steps = {steps}"
    else:
        asked = _listed(scales, where)
        found = f"scales up to {asked[-1]}"
    if asked[-1] > available:
        raise SemscaleError(
            "more steps than the strategy has", where=where, found=found, expected=f"at most {available}", hint=hint
        )
    return asked


def _listed(scales: Sequence[int], where: str) -> list[int]:
    whole = [scale for scale in scales if isinstance(scale, int) and not isinstance(scale, bool)]
    # the class names alone are what every other step is measured against
    if len(whole) < len(scales) or whole[:1] != [1] or any(b <= a for a, b in pairwise(whole)):
        raise SemscaleError(
            "the scales do not begin with 1 and rise", where=where, found=str(list(scales)), expected="such as 1, 2, 4"
        )
    return whole
