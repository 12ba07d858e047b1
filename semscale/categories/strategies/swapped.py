"""Control: the equivalents of another class; real texts, as many, under the wrong name."""

from __future__ import annotations

from collections.abc import Mapping

from semscale.categories.draws import shuffled
from semscale.categories.registry import Category, Places, StrategyContext, control


@control("swapped")
def swapped(controlled: Mapping[str, Places], context: StrategyContext) -> Mapping[str, Places]:
    """Control: every class keeps its name and takes the equivalents of one other class, all classes in a ring.

    The ring is drawn by the order. Place by place a class takes what the next class of the ring has there (the one
    after that where it has nothing), so every step offers the same texts as the controlled strategy. A place where
    only one class has a category stays empty.

    >>> lists = {name: [Category(name, ""), Category(f"{name}s", "")] for name in ("cat", "dog", "cow")}
    >>> made = swapped(lists, StrategyContext(tuple(lists), "animal", seed=0))
    >>> {name: [category.text for category in places] for name, places in made.items()}
    {'cat': ['cat', 'cows'], 'dog': ['dog', 'cats'], 'cow': ['cow', 'dogs']}
    """
    ring = shuffled(list(controlled), "swapped", context.seed)
    made = {name: list(places) for name, places in controlled.items()}
    for n in range(1, max(map(len, controlled.values()))):
        there = [name for name in ring if n < len(controlled[name]) and controlled[name][n] is not None]
        for name, following in zip(there, [*there[1:], *there[:1]], strict=True):
            made[name][n] = None if name == following else _from(controlled[following][n], following)
    return made


def _from(category: Category | None, owner: str) -> Category | None:
    return category and Category(category.text, f"{category.provenance} of {owner}")
