"""The template strategy with real English plurals instead of the published name + "s"."""

from __future__ import annotations

from collections.abc import Sequence

from semscale.categories.plurals import plural
from semscale.categories.registry import Category, strategy
from semscale.categories.strategies.templates import fill


@strategy("templates-fixed")
def templates_fixed(class_name: str, domain: str) -> Sequence[Category]:
    """The published templates with real plurals (crosses, mice; shorts and scissors stay).

    Where plural and singular are the same text (sheep), the list holds it twice; building a ladder drops the
    repetition and leaves its place empty, so that a place still means the same template in every class.

    >>> [category.text for category in templates_fixed("wolf", "animal")][:4]
    ['wolf', 'wolves', 'Large wolf', 'Large wolves']
    """
    return list(fill(class_name, plural(class_name), domain, "{plural}"))
