"""From the strategies' lists to what is offered: permuted, without repetitions, and cut at each scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import compress, zip_longest
from typing import Literal

from semscale.categories.checks import normalise
from semscale.categories.orders import positions
from semscale.categories.registry import Category, Places

Shared = Literal["refuse", "drop"]
Slots = dict[str, list[Category | None]]


def offer(lists: Mapping[str, Places], order: int, places: bool) -> Slots:
    """Permute the lists and empty the places of texts that the class has already; all classes alike.

    A place that is empty in every class goes. Where `places` is False, the categories of a class close up.

    >>> lists = {"sheep": [Category("sheep", ""), Category("sheep", ""), Category("ram", "")]}
    >>> [slot and slot.text for slot in offer(lists, 0, places=True)["sheep"]]
    ['sheep', 'ram']
    """
    longest = max(map(len, lists.values()))
    row = positions(longest, order)
    slots = {name: _distinct([made[p] for p in row if p < len(made)]) for name, made in lists.items()}
    if not places:
        return {name: [slot for slot in made if slot is not None] for name, made in slots.items()}
    return without_empty_places(slots)


def without_empty_places(slots: Mapping[str, Sequence[Category | None]]) -> Slots:
    """Take out the places that are empty in every class."""
    used = [any(slot is not None for slot in place) for place in zip_longest(*slots.values())]
    return {name: list(compress(row, used)) for name, row in slots.items()}


def _distinct(made: Places) -> list[Category | None]:
    seen: set[str] = set()
    slots: list[Category | None] = []
    for category in made:
        key = normalise(category.text) if category is not None else ""
        # An empty text is no repetition: it stays, to be refused by the check of the texts.
        slots.append(None if key and key in seen else category)
        seen.add(key)
    return slots


def count_repeats(lists: Mapping[str, Places]) -> dict[str, int]:
    """Return how many texts of each class are repetitions, for the classes that have any.

    >>> count_repeats({"sheep": [Category("sheep", ""), Category("Sheep", "")], "ox": [Category("ox", "")]})
    {'sheep': 1}
    """
    counts = {}
    for name, made in lists.items():
        keys = [normalise(category.text) for category in made if category is not None]
        counts[name] = len(keys) - len(set(keys))
    return {name: count for name, count in counts.items() if count}


def drop_shared(lists: Mapping[str, Places]) -> tuple[dict[str, Places], list[str]]:
    """Take every text that stands under two or more classes out of all of them; a class name stays with its class.

    Returns:
        The lists with None in the places that became empty, and the texts that were taken out.

    >>> cat, lion = Category("cat", ""), Category("lion", "")
    >>> lists, dropped = drop_shared({"cat": [cat, Category("feline", "")], "lion": [lion, Category("Feline", "")]})
    >>> lists["lion"], dropped
    ([Category(text='lion', provenance=''), None], ['feline'])
    """
    owners: dict[str, set[str]] = {}
    for name, made in lists.items():
        for category in made:
            if category is not None:
                owners.setdefault(normalise(category.text), set()).add(name)
    first = {normalise(made[0].text): name for name, made in lists.items() if made and made[0] is not None}
    dropped: dict[str, str] = {}

    def kept(name: str, category: Category | None) -> Category | None:
        if category is None:
            return None
        key = normalise(category.text)
        if not key or len(owners[key]) == 1 or first.get(key) == name:
            return category
        dropped.setdefault(key, category.text)
        return None

    left: dict[str, Places] = {name: [kept(name, item) for item in made] for name, made in lists.items()}
    return left, list(dropped.values())
