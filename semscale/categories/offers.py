"""What a strategy offers at each order: its lists made once, checked, permuted, and for a control exchanged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from semscale.categories.options import mapping_option, text_option
from semscale.categories.orders import check_orders
from semscale.categories.registry import Places, Strategy, StrategyContext, check_options, find_strategy
from semscale.categories.slots import Shared, count_repeats, drop_shared, offer
from semscale.errors import SemscaleError


@dataclass(frozen=True)
class Offer:
    """The categories of every class in the order in which the steps add them.

    Attributes:
        order: the order that permuted them.
        slots: for each class its categories, None where it has nothing in a place.
        repeats: whether a class may be offered the same text again.
        notes: what was left out.
    """

    order: int
    slots: Mapping[str, Places]
    repeats: bool
    notes: tuple[str, ...]


def make_offers(
    classes: tuple[str, ...],
    domain: str,
    strategy: str,
    options: Mapping[str, object],
    orders: Sequence[int],
    shared: Shared,
    where: str,
) -> Iterator[Offer]:
    """Yield the offer of each order.

    A control is made from the places of the strategy that it controls, after these are permuted and cleared of
    repeated and shared texts. So it has as many categories as that strategy in every class at every step.

    Raises:
        SemscaleError: an unknown strategy or option, no order or one twice, an option that does not fit.
    """
    check_orders(orders)
    if shared not in ("refuse", "drop"):
        raise SemscaleError("unknown policy for shared texts", where=where, found=repr(shared), expected="refuse, drop")
    entry = find_strategy(strategy)
    check_options(entry, options)
    source, source_options = _controlled(entry, options) if entry.control else (entry, options)
    assert source.lists is not None  # only a control has none, and none controls a control
    made = source.lists(StrategyContext(classes, domain, source_options))
    lists: Mapping[str, Places] = {name: made[name] for name in classes}
    notes = []
    if repeated := count_repeats(lists):
        counts = ", ".join(f"{name} {count}" for name, count in list(repeated.items())[:5])
        notes.append(f"texts left out because their class has them already: {counts}{_more(len(repeated) - 5)}")
    if shared == "drop":
        lists, dropped = drop_shared(lists)
        if dropped:
            texts = ", ".join(dropped[:5])
            notes.append(f"texts of several classes, dropped from all: {texts}{_more(len(dropped) - 5)}")
    for order in orders:
        slots: Mapping[str, Places] = offer(lists, order, source.places)
        more: list[str] = []
        if entry.control is not None:
            exchanged = entry.control(slots, StrategyContext(classes, domain, options, seed=order))
            if lost := _count(slots) - _count(exchanged):
                more.append(f"{lost} places stay empty, because no other class has a category there")
            slots = exchanged
        yield Offer(order, slots, entry.repeats, (*notes, *more))


def _controlled(entry: Strategy, options: Mapping[str, object]) -> tuple[Strategy, Mapping[str, object]]:
    where = f"strategy {entry.name}"
    source = find_strategy(text_option(options, "of", "templates", where))
    if source.control is not None:
        raise SemscaleError("a control cannot control a control", where=where, found=source.name)
    source_options = mapping_option(options, "of_options", where)
    check_options(source, source_options)
    return source, source_options


def _count(slots: Mapping[str, Places]) -> int:
    return sum(slot is not None for row in slots.values() for slot in row)


def _more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""
