"""Arrangement of a strategy's categories: permuted by order, without repetitions, aligned across classes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress, zip_longest
from typing import Literal

from semscale.categories.strategy_registry import (
    MAPPING,
    Category,
    Positions,
    Strategy,
    StrategyContext,
    check_options,
    find_strategy,
    read_option,
)
from semscale.common.errors import CategoryError
from semscale.common.text import counted, text_key

Shared = Literal["refuse", "drop"]
Slots = dict[str, list[Category | None]]


@dataclass(frozen=True)
class Arrangement:
    """The categories of every class in the order in which the steps add them.

    Attributes:
        order: the order that permuted them.
        slots: for each class its categories, None where it has nothing in a position.
        repeats: whether a class may be offered the same text again.
        notes: what was left out.
    """

    order: int
    slots: Mapping[str, Positions]
    repeats: bool
    notes: tuple[str, ...]


def arrangements(
    context: StrategyContext, strategy: str, orders: Sequence[int], shared: Shared, where: str
) -> Iterator[Arrangement]:
    """Yield the arrangement of each order; the strategy makes its lists once.

    A control is made from the lists of the strategy that it controls, after these are permuted and cleared of
    repeated and shared texts. So it has as many categories as that strategy in every class at every step.

    Raises:
        CategoryError: an unknown strategy or option, no order or one twice, an option that does not fit.
    """
    check_orders(orders)
    if shared not in ("refuse", "drop"):
        raise CategoryError("unknown policy for shared texts", where=where, found=repr(shared), expected="refuse, drop")
    entry = find_strategy(strategy)
    check_options(entry, context.options)
    source, source_options = _controlled(entry, context.options) if entry.control else (entry, context.options)
    assert source.lists is not None  # only a control has none, and none controls a control
    made = source.lists(replace(context, options=source_options))
    lists: Mapping[str, Positions] = {name: made[name] for name in context.classes}
    notes = []
    if repeated := count_repeats(lists):
        counts = [f"{name} {count}" for name, count in repeated.items()]
        notes.append(f"texts left out because their class has them already: {shorten(counts)}")
    if shared == "drop":
        lists, dropped = drop_shared(lists)
        if dropped:
            notes.append(f"texts of several classes, dropped from all: {shorten(dropped)}")
    for order in orders:
        slots: Mapping[str, Positions] = arrange(lists, order, source.aligned)
        more: list[str] = []
        if entry.control is not None:
            exchanged = entry.control(slots, replace(context, seed=order))
            if lost := _count(slots) - _count(exchanged):
                more.append(f"{counted(lost, 'positions stay')} empty, because no other class has a category there")
            slots = exchanged
        yield Arrangement(order, slots, entry.repeats, (*notes, *more))


def _controlled(entry: Strategy, options: Mapping[str, object]) -> tuple[Strategy, Mapping[str, object]]:
    where = f"strategy {entry.name}"
    source = find_strategy(read_option(options, "of", str, where, "templates"))
    if source.control is not None:
        raise CategoryError("a control cannot control a control", where=where, found=source.name)
    source_options = read_option(options, "of_options", MAPPING, where, {})
    check_options(source, source_options)
    return source, source_options


def _count(slots: Mapping[str, Positions]) -> int:
    return sum(slot is not None for row in slots.values() for slot in row)


def shorten(names: Sequence[str], most: int = 5) -> str:
    """Return the names joined, with the number of those beyond `most`.

    >>> shorten(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def positions(count: int, order: int) -> list[int]:
    """Return the order in which the positions of a list are offered; position 0, the class name, comes first.

    Order 0 is the strategy's own. Order k > 0 sorts the other positions by the SHA-256 of "k:position". Every class
    uses the same permutation, so that a step adds the same template to all of them and steps stay comparable.
    A hash rather than a random generator: it is the same in every version of every library, and a longer list
    only slips its new positions in between.

    >>> positions(5, 0), positions(5, 1)
    ([0, 1, 2, 3, 4], [0, 4, 2, 3, 1])
    """
    if order < 0:
        raise CategoryError(
            "an order is a number from 0 on", found=str(order), expected="0 for the strategy's own order"
        )
    others = list(range(1, count))
    if order > 0:
        others.sort(key=lambda position: hashlib.sha256(f"{order}:{position}".encode()).digest())
    return [0, *others] if count else []


def check_orders(orders: Sequence[int]) -> None:
    """Refuse an empty list of orders, and an order that stands there twice."""
    if not orders:
        raise CategoryError("at least one order is needed", expected="0 for the strategy's own order")
    for order in orders:
        if list(orders).count(order) > 1:
            raise CategoryError("an order stands there twice", found=str(order), expected="different orders")


def arrange(lists: Mapping[str, Positions], order: int, aligned: bool) -> Slots:
    """Permute the lists and empty the positions of texts that the class has already; all classes alike.

    A position that is empty in every class goes. Where `aligned` is False, the categories of a class close up.

    >>> lists = {"sheep": [Category("sheep", ""), Category("sheep", ""), Category("ram", "")]}
    >>> [slot and slot.text for slot in arrange(lists, 0, aligned=True)["sheep"]]
    ['sheep', 'ram']
    """
    longest = max(map(len, lists.values()))
    row = positions(longest, order)
    slots = {name: _distinct([made[p] for p in row if p < len(made)]) for name, made in lists.items()}
    if not aligned:
        return {name: [slot for slot in made if slot is not None] for name, made in slots.items()}
    used = [any(slot is not None for slot in position) for position in zip_longest(*slots.values())]
    return {name: list(compress(made, used)) for name, made in slots.items()}


def _distinct(made: Positions) -> list[Category | None]:
    seen: set[str] = set()
    slots: list[Category | None] = []
    for category in made:
        key = text_key(category.text) if category is not None else ""
        # An empty text is no repetition: it stays, to be refused by the check of the texts.
        slots.append(None if key and key in seen else category)
        seen.add(key)
    return slots


def count_repeats(lists: Mapping[str, Positions]) -> dict[str, int]:
    """Return how many texts of each class are repetitions, for the classes that have any.

    >>> count_repeats({"sheep": [Category("sheep", ""), Category("Sheep", "")], "ox": [Category("ox", "")]})
    {'sheep': 1}
    """
    counts = {}
    for name, made in lists.items():
        keys = [text_key(category.text) for category in made if category is not None]
        counts[name] = len(keys) - len(set(keys))
    return {name: count for name, count in counts.items() if count}


def drop_shared(lists: Mapping[str, Positions]) -> tuple[dict[str, Positions], list[str]]:
    """Take every text that stands under two or more classes out of all of them; a class name stays with its class.

    Returns:
        The lists with None in the positions that became empty, and the texts that were taken out.

    >>> cat, lion = Category("cat", ""), Category("lion", "")
    >>> lists, dropped = drop_shared({"cat": [cat, Category("feline", "")], "lion": [lion, Category("Feline", "")]})
    >>> lists["lion"], dropped
    ([Category(text='lion', provenance=''), None], ['feline'])
    """
    owners: dict[str, set[str]] = {}
    for name, made in lists.items():
        for category in made:
            if category is not None:
                owners.setdefault(text_key(category.text), set()).add(name)
    first = {text_key(made[0].text): name for name, made in lists.items() if made and made[0] is not None}
    dropped: dict[str, str] = {}

    def kept(name: str, category: Category | None) -> Category | None:
        if category is None:
            return None
        key = text_key(category.text)
        if not key or len(owners[key]) == 1 or first.get(key) == name:
            return category
        dropped.setdefault(key, category.text)
        return None

    left: dict[str, Positions] = {name: [kept(name, item) for item in made] for name, made in lists.items()}
    return left, list(dropped.values())
