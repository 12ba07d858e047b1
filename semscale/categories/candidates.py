"""Candidates for greedy selection, positions in the lists of several strategies, and ladders of selected ones."""

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
        strategy: name of the strategy.
        index: the position; that of the class name is 0.
        categories: the category of each class, or None where the class has the text already (the plural of sheep).
    """

    strategy: str
    index: int
    categories: Mapping[str, Category | None]

    @property
    def label(self) -> str:
        """The template that the classes have in common, or else the first texts.

        >>> Candidate("prompts", 1, {"cat": Category("a toy cat", "a toy {c}")}).label
        'a toy {c}'
        """
        present = [category for category in self.categories.values() if category is not None]
        sources = {category.provenance for category in present}
        if len(sources) == 1 and any("{" in source for source in sources):
            return sources.pop()
        return ", ".join(category.text for category in present[:2]) + (", ..." if len(present) > 2 else "")


def candidate_pool(dataset: str, classes: Sequence[str], domain: str, strategies: Sequence[str]) -> list[Candidate]:
    """Return the candidates of the strategies in their sequence, without those that add no text to earlier ones.

    A strategy has as many candidates as its shortest class has categories, so that each adds a text to all classes.

    Args:
        dataset: for messages.
        classes: the class names, which every ladder has and which are no candidate.
        domain: the common noun of all classes.
        strategies: names of registered strategies.

    Raises:
        CategoryError: as :func:`~.ladder_builder.build_ladder`, also for a text that two strategies give to
            different classes.

    >>> pool = candidate_pool("pets", ["cat", "dog"], "pet", ["templates", "templates-fixed"])
    >>> [candidate.label for candidate in pool][:3], len(pool)
    (['{c}s', 'Large {c}', 'Large {c}s'], 11)
    """
    check_classes(classes, f"dataset {dataset}")
    pool: list[Candidate] = []
    texts: dict[str, list[str]] = {name: [name] for name in classes}
    known: set[tuple[str, str]] = {(name, text_key(name)) for name in classes}
    for strategy in strategies:
        where = f"dataset {dataset}, strategy {strategy}"
        context = StrategyContext(tuple(classes), domain)
        (arrangement,) = arrangements(context, strategy, (0,), "refuse", where)
        for index in range(min(map(len, arrangement.lists.values()))):
            categories = {name: arrangement.lists[name][index] for name in classes}
            keys = {(name, text_key(category.text)) for name, category in categories.items() if category is not None}
            if keys <= known:
                continue
            known |= keys
            for name, category in categories.items():
                if category is not None:
                    texts[name].append(category.text)
            pool.append(Candidate(strategy, index, categories))
    distinct = {name: {text_key(text): text for text in of_class}.values() for name, of_class in texts.items()}
    check_texts(distinct, f"dataset {dataset}, strategies {', '.join(strategies)}")
    return pool


def candidate_ladder(
    dataset: str, classes: Sequence[str], selected: Sequence[Candidate], strategy: str, notes: Sequence[str] = ()
) -> Ladder:
    """Return the ladder that starts with the class names and adds one candidate at each step.

    Args:
        dataset: name of the dataset.
        classes: the class names.
        selected: the candidates in the sequence of the steps.
        strategy: the strategy's name in tables.
        notes: the ladder's notes.

    >>> pool = candidate_pool("pets", ["cat", "dog"], "pet", ["templates"])
    >>> ladder = candidate_ladder("pets", ["cat", "dog"], pool[1:2], "optimized")
    >>> ladder.steps[1].categories["dog"], ladder.provenance["dog"]
    (('dog', 'Large dog'), ('class name', 'templates: Large {c}'))
    """
    texts = {name: [name] for name in classes}
    sources = {name: ["class name"] for name in classes}
    seen = {name: {text_key(name)} for name in classes}
    steps = [_step(1, texts)]
    for candidate in selected:
        for name, category in candidate.categories.items():
            if category is not None and text_key(category.text) not in seen[name]:
                seen[name].add(text_key(category.text))
                texts[name].append(category.text)
                sources[name].append(f"{candidate.strategy}: {category.provenance}")
        step = _step(len(steps) + 1, texts)
        if step.n_categories > steps[-1].n_categories:
            steps.append(step)
    provenance = {name: tuple(of_class) for name, of_class in sources.items()}
    return Ladder(dataset, strategy, 0, tuple(classes), tuple(steps), provenance, notes=tuple(notes))


def _step(scale: int, texts: Mapping[str, Sequence[str]]) -> LadderStep:
    return LadderStep(scale, sum(map(len, texts.values())), {name: tuple(of_class) for name, of_class in texts.items()})
