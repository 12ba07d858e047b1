"""The places of several strategies together, and ladders made from a choice of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from semscale.categories.checks import check_classes, check_texts, normalise
from semscale.categories.ladder import Ladder, LadderStep
from semscale.categories.offers import make_offers
from semscale.categories.registry import Category


@dataclass(frozen=True)
class Place:
    """A position in a strategy's lists, which adds a text to every class.

    Attributes:
        strategy: whose list.
        number: its position there; the class name has 0.
        categories: the text of each class, or None where the class has it already (the plural of sheep).
    """

    strategy: str
    number: int
    categories: Mapping[str, Category | None]

    @property
    def label(self) -> str:
        """What the classes have in common here: the template, or else the first texts.

        >>> Place("prompts", 1, {"cat": Category("a toy cat", "a toy {c}")}).label
        'a toy {c}'
        """
        made = [category for category in self.categories.values() if category is not None]
        sources = {category.provenance for category in made}
        if len(sources) == 1 and any("{" in source for source in sources):
            return sources.pop()
        return ", ".join(category.text for category in made[:2]) + (", ..." if len(made) > 2 else "")


def make_pool(dataset: str, classes: Sequence[str], domain: str, strategies: Sequence[str]) -> list[Place]:
    """Return the places of the strategies in their orders, without those whose texts earlier ones have already.

    A strategy gives as many places as its shortest class has, so that every place adds as much to all classes.

    Args:
        dataset: for messages.
        classes: the class names; they are offered in any case and make no place.
        domain: the word for what all classes are.
        strategies: names of registered strategies.

    Raises:
        SemscaleError: as :func:`semscale.categories.ladder.build_ladder`, also for a text that one strategy has under
            one class and another strategy under another.

    >>> pool = make_pool("pets", ["cat", "dog"], "pet", ["templates", "templates-fixed"])
    >>> [place.label for place in pool][:3], len(pool)
    (['{c}s', 'Large {c}', 'Large {c}s'], 11)
    """
    check_classes(classes, f"dataset {dataset}")
    pool: list[Place] = []
    texts: dict[str, list[str]] = {name: [name] for name in classes}
    known: set[tuple[str, str]] = {(name, normalise(name)) for name in classes}
    for strategy in strategies:
        where = f"dataset {dataset}, strategy {strategy}"
        (offer,) = make_offers(tuple(classes), domain, strategy, {}, (0,), "refuse", where)
        for number in range(min(map(len, offer.slots.values()))):
            found = {name: offer.slots[name][number] for name in classes}
            keys = {(name, normalise(made.text)) for name, made in found.items() if made is not None}
            if keys <= known:
                continue
            known |= keys
            for name, made in found.items():
                if made is not None:
                    texts[name].append(made.text)
            pool.append(Place(strategy, number, found))
    distinct = {name: {normalise(text): text for text in made}.values() for name, made in texts.items()}
    check_texts(distinct, f"dataset {dataset}, strategies {', '.join(strategies)}")
    return pool


def pool_ladder(
    dataset: str, classes: Sequence[str], chosen: Sequence[Place], strategy: str, notes: Sequence[str] = ()
) -> Ladder:
    """Return the ladder that starts with the class names and adds one place at each step.

    Args:
        dataset: its name.
        classes: the class names.
        chosen: the places in the order of the steps.
        strategy: what the ladder is called.
        notes: what a reader should know of it.

    >>> places = make_pool("pets", ["cat", "dog"], "pet", ["templates"])
    >>> ladder = pool_ladder("pets", ["cat", "dog"], places[1:2], "optimized")
    >>> ladder.steps[1].categories["dog"], ladder.provenance["dog"]
    (('dog', 'Large dog'), ('class name', 'templates: Large {c}'))
    """
    texts = {name: [name] for name in classes}
    sources = {name: ["class name"] for name in classes}
    seen = {name: {normalise(name)} for name in classes}
    steps = [_step(1, texts)]
    for place in chosen:
        for name, category in place.categories.items():
            if category is not None and normalise(category.text) not in seen[name]:
                seen[name].add(normalise(category.text))
                texts[name].append(category.text)
                sources[name].append(f"{place.strategy}: {category.provenance}")
        step = _step(len(steps) + 1, texts)
        if step.n_categories > steps[-1].n_categories:
            steps.append(step)
    provenance = {name: tuple(made) for name, made in sources.items()}
    return Ladder(dataset, strategy, 0, tuple(classes), tuple(steps), provenance, notes=tuple(notes))


def _step(scale: int, texts: Mapping[str, Sequence[str]]) -> LadderStep:
    return LadderStep(scale, sum(map(len, texts.values())), {name: tuple(made) for name, made in texts.items()})
