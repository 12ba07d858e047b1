"""The ladder: the nested sequence of category sets of one dataset, strategy and order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress, zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semscale.categories.checks import check_classes, check_texts, normalise
from semscale.categories.orders import Scales, positions, step_scales
from semscale.categories.registry import Category, find_strategy


@dataclass(frozen=True)
class LadderStep:
    """One category set of a ladder.

    Attributes:
        scale: the categories per class at this step (a class that ran out of distinct texts has fewer).
        n_categories: all categories offered at this step.
        categories: the texts of each class, in the order in which they were added.
    """

    scale: int
    n_categories: int
    categories: Mapping[str, Sequence[str]]

    @property
    def short_classes(self) -> tuple[str, ...]:
        """The classes with fewer categories than the scale, which `max` puts at a small disadvantage."""
        return tuple(name for name, texts in self.categories.items() if len(texts) < self.scale)


@dataclass(frozen=True)
class FlatLadder:
    """A ladder as the kernel takes it: every text once, in the order in which the steps add them.

    Attributes:
        texts: m texts; by step joined, then by class, then by order within the class.
        class_index: int32[m], the index of each text's class in the ladder's classes.
        step_ends: int64[S]; step k offers `texts[:step_ends[k]]`.
        scales: the scale of each of the S steps.
    """

    texts: list[str]
    class_index: NDArray[np.int32]
    step_ends: NDArray[np.int64]
    scales: list[int]


@dataclass(frozen=True)
class Ladder:
    """The nested category sets of one dataset x strategy x order: a step keeps all texts of the step before.

    Attributes:
        dataset: name of the dataset.
        strategy: name of the strategy that made the texts.
        order: 0 for the strategy's own order, k > 0 for a seeded permutation of the equivalents.
        classes: the class names, in the dataset's order.
        steps: the category sets, from the class names alone upwards.
        provenance: for each class, where each text of the last step comes from; empty when unknown.
    """

    dataset: str
    strategy: str
    order: int
    classes: tuple[str, ...]
    steps: tuple[LadderStep, ...]
    provenance: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def scales(self) -> list[int]:
        """The scale of each step."""
        return [step.scale for step in self.steps]

    @property
    def digest(self) -> str:
        """SHA-256 over everything but the provenance, in hexadecimal: the identity of a ladder's content."""
        content = {key: value for key, value in self.to_json().items() if key != "provenance"}
        packed = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(packed.encode()).hexdigest()

    def flatten(self) -> FlatLadder:
        """Return the texts in the order in which the steps add them, with their classes."""
        texts: list[str] = []
        owners: list[int] = []
        ends: list[int] = []
        seen: set[str] = set()
        for step in self.steps:
            for index, name in enumerate(self.classes):
                new = [text for text in step.categories[name] if text not in seen]
                seen.update(new)
                texts += new
                owners += [index] * len(new)
            ends.append(len(texts))
        return FlatLadder(texts, np.array(owners, np.int32), np.array(ends, np.int64), self.scales)

    def to_json(self) -> dict[str, object]:
        """Return the ladder in the project's file format, as plain lists and dictionaries."""
        steps = [
            {
                "scale": step.scale,
                "n_categories": step.n_categories,
                "categories": {name: list(step.categories[name]) for name in self.classes},
            }
            for step in self.steps
        ]
        content: dict[str, object] = {
            "dataset": self.dataset,
            "strategy": self.strategy,
            "order": self.order,
            "classes": list(self.classes),
            "steps": steps,
        }
        if self.provenance:
            content["provenance"] = {name: list(self.provenance[name]) for name in self.classes}
        return content

    def save(self, path: str | Path) -> None:
        """Write the ladder to a JSON file, making its folder when needed."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(self.to_json(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def build_ladder(
    dataset: str,
    classes: Sequence[str],
    domain: str,
    strategy: str,
    steps: int = 12,
    scales: Scales = "linear",
    order: int = 0,
) -> Ladder:
    """Build the ladder of a dataset: each class's list from the strategy, permuted, and cut at each scale.

    A text that a class has already (after `normalise`: "sheep" as its own plural) is dropped and its place
    stays empty, so that a step adds the same template to every class; `LadderStep.short_classes` names the
    classes concerned and `n_categories` counts what is really offered. A place that is empty in every class
    is no step.

    Args:
        dataset: name of the dataset.
        classes: its class names, two or more.
        domain: the word for what all classes are.
        strategy: name of a registered strategy.
        steps: how many category sets.
        scales: `linear` (1, 2, 3, ...) or `exponential` (1, 2, 4, ... as far as there are categories).
        order: 0 for the strategy's own order, k > 0 for a seeded permutation of the equivalents.

    Raises:
        SemscaleError: for too few classes, an empty text, a text under two classes, an unknown strategy, or
            more steps than it has.

    >>> ladder = build_ladder("pets", ["cat", "dog"], "animal", "templates", steps=3)
    >>> ladder.steps[2].categories["dog"]
    ('dog', 'dogs', 'Large dog')
    >>> ladder.flatten().texts
    ['cat', 'dog', 'cats', 'dogs', 'Large cat', 'Large dog']
    """
    where = f"dataset {dataset}, strategy {strategy}"
    check_classes(classes, where)
    make = find_strategy(strategy)
    offered = _offer({name: list(make(name, domain)) for name in classes}, order)
    shortest = min(map(len, offered.values()))
    built = [
        _step(scale, {name: slots[:scale] for name, slots in offered.items()})
        for scale in step_scales(steps, shortest, scales, where)
    ]
    last = built[-1]
    check_texts(last.categories, where)
    provenance = {
        name: tuple(slot.provenance for slot in slots[: last.scale] if slot is not None)
        for name, slots in offered.items()
    }
    return Ladder(dataset, strategy, order, tuple(classes), tuple(built), provenance)


def _offer(lists: Mapping[str, Sequence[Category]], order: int) -> dict[str, list[Category | None]]:
    """Permute the lists and empty the places of repeated texts; a place that all classes leave empty goes."""
    longest = max(map(len, lists.values()))
    places = positions(longest, order)
    slots = {name: _distinct([made[p] for p in places if p < len(made)]) for name, made in lists.items()}
    used = [any(slot is not None for slot in place) for place in zip_longest(*slots.values())]
    return {name: list(compress(row, used)) for name, row in slots.items()}


def _distinct(made: Sequence[Category]) -> list[Category | None]:
    seen: set[str] = set()
    slots: list[Category | None] = []
    for category in made:
        key = normalise(category.text)
        # An empty text is no repetition: it stays, to be refused by the check of the texts.
        slots.append(None if key and key in seen else category)
        seen.add(key)
    return slots


def _step(scale: int, slots: Mapping[str, Sequence[Category | None]]) -> LadderStep:
    categories = {name: tuple(slot.text for slot in row if slot is not None) for name, row in slots.items()}
    return LadderStep(scale, sum(map(len, categories.values())), categories)
