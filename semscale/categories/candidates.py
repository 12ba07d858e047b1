"""Candidate positions of several strategies for greedy selection, and ladders made from a choice of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from semscale.categories.arrangement import arrangements
from semscale.categories.ladder import Ladder, LadderStep
from semscale.categories.strategy_registry import Category, StrategyContext
from semscale.categories.text_checks import check_classes, check_texts
from semscale.common.text import text_key


@dataclass(frozen=True)
class Candidate:
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

        >>> Candidate("prompts", 1, {"cat": Category("a toy cat", "a toy {c}")}).label
        'a toy {c}'
        """
        made = [category for category in self.categories.values() if category is not None]
        sources = {category.provenance for category in made}
        if len(sources) == 1 and any("{" in source for source in sources):
            return sources.pop()
        return ", ".join(category.text for category in made[:2]) + (", ..." if len(made) > 2 else "")


def candidate_pool(dataset: str, classes: Sequence[str], domain: str, strategies: Sequence[str]) -> list[Candidate]:
    """Return the positions of the strategies in their orders, without those whose texts earlier ones have already.

    A strategy gives as many positions as its shortest class has, so that every position adds as much to all classes.

    Args:
        dataset: for messages.
        classes: the class names; they are offered in any case and make no position.
        domain: the word for what all classes are.
        strategies: names of registered strategies.

    Raises:
        CategoryError: as :func:`~.ladder_builder.build_ladder`, also for a text that one strategy has under
            one class and another strategy under another.

    >>> pool = candidate_pool("pets", ["cat", "dog"], "pet", ["templates", "templates-fixed"])
    >>> [position.label for position in pool][:3], len(pool)
    (['{c}s', 'Large {c}', 'Large {c}s'], 11)
    """
    check_classes(classes, f"dataset {dataset}")
    pool: list[Candidate] = []
    texts: dict[str, list[str]] = {name: [name] for name in classes}
    known: set[tuple[str, str]] = {(name, text_key(name)) for name in classes}
    for strategy in strategies:
        where = f"dataset {dataset}, strategy {strategy}"
        context = StrategyContext(tuple(classes), domain)
        (arranged,) = arrangements(context, strategy, (0,), "refuse", where)
        for number in range(min(map(len, arranged.slots.values()))):
            found = {name: arranged.slots[name][number] for name in classes}
            keys = {(name, text_key(made.text)) for name, made in found.items() if made is not None}
            if keys <= known:
                continue
            known |= keys
            for name, made in found.items():
                if made is not None:
                    texts[name].append(made.text)
            pool.append(Candidate(strategy, number, found))
    distinct = {name: {text_key(text): text for text in made}.values() for name, made in texts.items()}
    check_texts(distinct, f"dataset {dataset}, strategies {', '.join(strategies)}")
    return pool


def candidate_ladder(
    dataset: str, classes: Sequence[str], chosen: Sequence[Candidate], strategy: str, notes: Sequence[str] = ()
) -> Ladder:
    """Return the ladder that starts with the class names and adds one position at each step.

    Args:
        dataset: its name.
        classes: the class names.
        chosen: the positions in the order of the steps.
        strategy: what the ladder is called.
        notes: what a reader should know of it.

    >>> positions = candidate_pool("pets", ["cat", "dog"], "pet", ["templates"])
    >>> ladder = candidate_ladder("pets", ["cat", "dog"], positions[1:2], "optimized")
    >>> ladder.steps[1].categories["dog"], ladder.provenance["dog"]
    (('dog', 'Large dog'), ('class name', 'templates: Large {c}'))
    """
    texts = {name: [name] for name in classes}
    sources = {name: ["class name"] for name in classes}
    seen = {name: {text_key(name)} for name in classes}
    steps = [_step(1, texts)]
    for position in chosen:
        for name, category in position.categories.items():
            if category is not None and text_key(category.text) not in seen[name]:
                seen[name].add(text_key(category.text))
                texts[name].append(category.text)
                sources[name].append(f"{position.strategy}: {category.provenance}")
        step = _step(len(steps) + 1, texts)
        if step.n_categories > steps[-1].n_categories:
            steps.append(step)
    provenance = {name: tuple(made) for name, made in sources.items()}
    return Ladder(dataset, strategy, 0, tuple(classes), tuple(steps), provenance, notes=tuple(notes))


def _step(scale: int, texts: Mapping[str, Sequence[str]]) -> LadderStep:
    return LadderStep(scale, sum(map(len, texts.values())), {name: tuple(made) for name, made in texts.items()})
