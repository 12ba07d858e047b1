"""From senses of WordNet to lists of categories."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from semscale.categories.checks import normalise
from semscale.categories.registry import Category, Places

Synset = Any


def lists_of(
    senses: Mapping[str, Synset | None], equivalents: Callable[[Synset], Sequence[Category]]
) -> dict[str, Places]:
    """Return for each class its name and the equivalents of its sense, each text once; None has no equivalents.

    Args:
        senses: the sense of each class.
        equivalents: sense -> categories in their order; of equal texts the first one stays.
    """
    lists: dict[str, Places] = {}
    for name, sense in senses.items():
        made = {normalise(name): Category(name, "{c}")}
        for category in equivalents(sense) if sense is not None else ():
            made.setdefault(normalise(category.text), category)
        lists[name] = list(made.values())
    return lists


def lemma_categories(senses: Iterable[Synset], relation: str) -> list[Category]:
    """Return the words of these senses; the provenance is the relation and the sense."""
    return [Category(spaced(lemma), f"{relation} {sense.name()}") for sense in senses for lemma in sense.lemma_names()]


def spaced(lemma: str) -> str:
    """Return a lemma as a text: WordNet writes spaces as underscores.

    >>> spaced("domestic_dog")
    'domestic dog'
    """
    return lemma.replace("_", " ")
