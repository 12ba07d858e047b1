"""Arrangement of a strategy's categories: permuted by order, deduplicated, aligned across classes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress, zip_longest
from typing import Literal

from semscale.categories.strategy_registry import (
    MAPPING,
    Category,
    CategoryList,
    CategoryLists,
    Strategy,
    StrategyContext,
    check_options,
    find_strategy,
    read_option,
)
from semscale.common.errors import CategoryError
from semscale.common.text import counted, text_key

CollisionPolicy = Literal["refuse", "drop"]
"""On collision, a text of two or more classes: refuse the ladder, or drop the text from all of them."""


@dataclass(frozen=True)
class Arrangement:
    """The categories of every class in the sequence in which the steps add them.

    Attributes:
        order: the order that permuted them.
        lists: the categories of each class by position, None where the class has none.
        repeats: whether a class may have the same text again.
        notes: what was left out.
    """

    order: int
    lists: CategoryLists
    repeats: bool
    notes: tuple[str, ...]


def arrangements(
    context: StrategyContext, strategy: str, orders: Sequence[int], shared: CollisionPolicy, where: str
) -> Iterator[Arrangement]:
    """Yield the arrangement of each order; the strategy makes its lists once.

    A control is made from the lists of the strategy that it controls, after these are permuted and cleared of
    repeated and shared texts. So it has as many categories as that strategy in every class at every step. `shared` is
    the policy on collision, `where` names the ladder in messages.

    Raises:
        CategoryError: unknown strategy, option or policy, invalid option, or no order or a repeated one.
    """
    check_orders(orders)
    if shared not in ("refuse", "drop"):
        raise CategoryError("unknown policy for shared texts", where=where, found=repr(shared), expected="refuse, drop")
    entry = find_strategy(strategy)
    check_options(entry, context.options)
    source, source_options = _controlled_strategy(entry, context.options) if entry.control else (entry, context.options)
    assert source.lists is not None  # only a control has none, and none controls a control
    by_class = source.lists(replace(context, options=source_options))
    lists: CategoryLists = {name: by_class[name] for name in context.classes}
    notes = []
    if repeated := count_repeats(lists):
        counts = [f"{name} {count}" for name, count in repeated.items()]
        notes.append(f"texts left out because their class has them already: {abbreviate(counts)}")
    if shared == "drop":
        lists, dropped = drop_shared(lists)
        if dropped:
            notes.append(f"texts of several classes, dropped from all: {abbreviate(dropped)}")
    for order in orders:
        arranged: CategoryLists = arrange(lists, order, source.aligned)
        lost = 0
        if entry.control is not None:
            exchanged = entry.control(arranged, replace(context, seed=order))
            lost, arranged = _count(arranged) - _count(exchanged), exchanged
        note = f"{counted(lost, 'positions stay')} empty, because no other class has a category there"
        yield Arrangement(order, arranged, entry.repeats, (*notes, note) if lost else tuple(notes))


def _controlled_strategy(entry: Strategy, options: Mapping[str, object]) -> tuple[Strategy, Mapping[str, object]]:
    where = f"strategy {entry.name}"
    source = find_strategy(read_option(options, "of", str, where, "templates"))
    if source.control is not None:
        raise CategoryError("a control cannot control a control", where=where, found=source.name)
    source_options = read_option(options, "of_options", MAPPING, where, {})
    check_options(source, source_options)
    return source, source_options


def _count(lists: CategoryLists) -> int:
    return sum(category is not None for categories in lists.values() for category in categories)


def abbreviate(names: Sequence[str], limit: int = 5) -> str:
    """Return up to `limit` names joined, and the number of the others.

    >>> abbreviate(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    first = ", ".join(names[:limit])
    return f"{first} and {len(names) - limit} more" if len(names) > limit else first


def permutation(count: int, order: int) -> list[int]:
    """Return the permutation of the positions of a list; position 0, the class name, is always first.

    Order 0 is the strategy's order. Order k > 0 sorts the other positions by the SHA-256 of "k:position". Every class
    uses the same permutation, so that a step adds the same template to all of them and steps are comparable. A hash
    instead of a random generator: it is the same in every version of every library, and a longer list keeps the
    relative sequence of the old positions.

    >>> permutation(5, 0), permutation(5, 1)
    ([0, 1, 2, 3, 4], [0, 4, 2, 3, 1])
    """
    if order < 0:
        raise CategoryError("an order is negative", found=str(order), expected="0 for the strategy's order, or more")
    others = list(range(1, count))
    if order > 0:
        others.sort(key=lambda position: hashlib.sha256(f"{order}:{position}".encode()).digest())
    return [0, *others] if count else []


def check_orders(orders: Sequence[int]) -> None:
    """Refuse an empty list of orders and repeated orders."""
    if not orders:
        raise CategoryError("at least one order is needed", expected="0 for the strategy's order")
    for order in orders:
        if list(orders).count(order) > 1:
            raise CategoryError("an order is given twice", found=str(order), expected="different orders")


def arrange(lists: CategoryLists, order: int, aligned: bool) -> dict[str, list[Category | None]]:
    """Return the permuted lists, with None instead of texts that the class has already.

    Positions that are empty in every class are removed, and if not `aligned` all empty positions.

    >>> lists = {"sheep": [Category("sheep", ""), Category("sheep", ""), Category("ram", "")]}
    >>> [category and category.text for category in arrange(lists, 0, aligned=True)["sheep"]]
    ['sheep', 'ram']
    """
    sequence = permutation(max(map(len, lists.values())), order)
    permuted = {name: _without_repeats([row[k] for k in sequence if k < len(row)]) for name, row in lists.items()}
    if not aligned:
        return {name: [category for category in row if category is not None] for name, row in permuted.items()}
    used = [any(category is not None for category in column) for column in zip_longest(*permuted.values())]
    return {name: list(compress(row, used)) for name, row in permuted.items()}


def _without_repeats(categories: CategoryList) -> list[Category | None]:
    seen: set[str] = set()
    distinct: list[Category | None] = []
    for category in categories:
        key = text_key(category.text) if category is not None else ""
        # An empty text is no repetition: it is kept, for the check of the texts to refuse.
        distinct.append(None if key and key in seen else category)
        seen.add(key)
    return distinct


def count_repeats(lists: CategoryLists) -> dict[str, int]:
    """Return the number of repeated texts of each class, for the classes that have any.

    >>> count_repeats({"sheep": [Category("sheep", ""), Category("Sheep", "")], "ox": [Category("ox", "")]})
    {'sheep': 1}
    """
    counts = {}
    for name, categories in lists.items():
        keys = [text_key(category.text) for category in categories if category is not None]
        counts[name] = len(keys) - len(set(keys))
    return {name: count for name, count in counts.items() if count}


def drop_shared(lists: CategoryLists) -> tuple[CategoryLists, list[str]]:
    """Drop every text of two or more classes from all of them; a class keeps its name.

    Returns:
        The lists with None instead of dropped texts, and these texts.

    >>> cat, lion = Category("cat", ""), Category("lion", "")
    >>> lists, dropped = drop_shared({"cat": [cat, Category("feline", "")], "lion": [lion, Category("Feline", "")]})
    >>> lists["lion"], dropped
    ([Category(text='lion', provenance=''), None], ['feline'])
    """
    owners: dict[str, set[str]] = {}
    for name, categories in lists.items():
        for category in filter(None, categories):
            owners.setdefault(text_key(category.text), set()).add(name)
    named = {text_key(first.text): name for name, categories in lists.items() for first in categories[:1] if first}
    dropped: dict[str, str] = {}

    def kept(name: str, category: Category | None) -> Category | None:
        if category is None:
            return None
        key = text_key(category.text)
        if not key or len(owners[key]) == 1 or named.get(key) == name:
            return category
        dropped.setdefault(key, category.text)
        return None

    remaining = {name: [kept(name, category) for category in categories] for name, categories in lists.items()}
    return remaining, list(dropped.values())
