"""Control: the equivalents of all classes dealt out at random; real texts, as many, without any order to them."""

from __future__ import annotations

from collections.abc import Mapping

from semscale.categories import draws
from semscale.categories.registry import Category, Places, StrategyContext, control


@control("shuffled")
def shuffled(controlled: Mapping[str, Places], context: StrategyContext) -> Mapping[str, Places]:
    """Control: every class keeps its name, and in each place the equivalents of all classes are dealt out anew.

    The permutation of each place is drawn by the place and the order. Unlike `swapped`, where a class gets all
    equivalents of one other class, the texts of a class then belong to many, now and then (once in a place, on
    average) to itself. Every step offers the same texts as the controlled strategy.

    >>> lists = {name: [Category(name, ""), Category(f"{name}s", "")] for name in ("cat", "dog", "cow")}
    >>> made = shuffled(lists, StrategyContext(tuple(lists), "animal", seed=1))
    >>> {name: [category.text for category in places] for name, places in made.items()}
    {'cat': ['cat', 'cows'], 'dog': ['dog', 'dogs'], 'cow': ['cow', 'cats']}
    """
    made = {name: list(places) for name, places in controlled.items()}
    for n in range(1, max(map(len, controlled.values()))):
        there = [name for name, places in controlled.items() if n < len(places) and places[n] is not None]
        for name, owner in zip(there, draws.shuffled(there, "shuffled", context.seed, n), strict=True):
            category = controlled[owner][n]
            made[name][n] = category and Category(category.text, f"{category.provenance} of {owner}")
    return made
