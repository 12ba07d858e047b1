"""Control: the class name again and again; count without meaning, and without any new text."""

from __future__ import annotations

from collections.abc import Mapping

from semscale.categories.registry import Category, Places, StrategyContext, control


@control("duplicates", repeats=True)
def duplicates(controlled: Mapping[str, Places], context: StrategyContext) -> Mapping[str, Places]:
    """Control: the class name as often as the controlled strategy has categories; accuracy must not move at all.

    >>> lists = {"dog": [Category("dog", ""), Category("dogs", ""), None]}
    >>> made = duplicates(lists, StrategyContext(("dog",), "animal"))["dog"]
    >>> [category and category.text for category in made]
    ['dog', 'dog', None]
    """
    return {
        name: [None if slot is None else places[0] if n == 0 else _again(places) for n, slot in enumerate(places)]
        for name, places in controlled.items()
    }


def _again(places: Places) -> Category | None:
    return places[0] and Category(places[0].text, "the first category again")
