"""Ladder: nested sequence of category sets of one dataset, strategy and order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LadderStep:
    """One category set of a ladder.

    Attributes:
        scale: the number of categories per class at this step (a class without so many distinct texts has fewer).
        n_categories: the number of all categories at this step, repetitions included.
        categories: the texts of each class, in the sequence in which they were added.
    """

    scale: int
    n_categories: int
    categories: Mapping[str, Sequence[str]]

    @property
    def short_classes(self) -> tuple[str, ...]:
        """The classes with fewer categories than the scale, which have a small disadvantage under `max`."""
        return tuple(name for name, texts in self.categories.items() if len(texts) < self.scale)


@dataclass(frozen=True)
class FlatLadder:
    """A ladder as input of the kernel: every text once, in the sequence in which the steps add them.

    A repeated text of a class has the same embedding: it counts in `LadderStep.n_categories` and adds nothing here.
    Therefore the control `duplicates` changes no bit of any prediction: all its steps are the texts of its first.

    Attributes:
        texts: m distinct texts; sorted by the step that adds them, then by class, then by position in the class.
        class_index: int32[m], the index of each text's class in the ladder's classes.
        step_ends: int64[S]; step k has `texts[:step_ends[k]]`.
        scales: the scale of each of the S steps.
    """

    texts: list[str]
    class_index: NDArray[np.int32]
    step_ends: NDArray[np.int64]
    scales: list[int]


@dataclass(frozen=True)
class Ladder:
    """The nested category sets of one dataset x strategy x order: a step keeps all texts of the previous step.

    Attributes:
        dataset: name of the dataset.
        strategy: name of the strategy that made the texts.
        order: 0 for the strategy's order, k > 0 for a seeded permutation of the equivalents.
        classes: the class names, as the dataset sorts them.
        steps: the category sets, starting with the class names alone.
        provenance: for each class, the origin of each text of the last step; empty when unknown.
        repeats: whether a class may have the same text again, as in the control `duplicates`.
        notes: remarks on these categories: texts left out, classes with fewer than the others, texts that CLIP may
            truncate.
    """

    dataset: str
    strategy: str
    order: int
    classes: tuple[str, ...]
    steps: tuple[LadderStep, ...]
    provenance: Mapping[str, Sequence[str]] = field(default_factory=dict)
    repeats: bool = False
    notes: tuple[str, ...] = ()

    @property
    def scales(self) -> list[int]:
        """The scale of each step."""
        return [step.scale for step in self.steps]

    @property
    def digest(self) -> str:
        """SHA-256 of all content but provenance and notes, in hexadecimal."""
        content = {key: value for key, value in self.to_json().items() if key not in ("provenance", "notes")}
        packed = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(packed.encode()).hexdigest()

    def flatten(self) -> FlatLadder:
        """Return the distinct texts in the sequence in which the steps add them, with their classes."""
        texts: list[str] = []
        owners: list[int] = []
        ends: list[int] = []
        seen: set[str] = set()
        for step in self.steps:
            for index, name in enumerate(self.classes):
                new = [text for text in dict.fromkeys(step.categories[name]) if text not in seen]
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
        if self.repeats:
            content["repeats"] = True
        if self.provenance:
            content["provenance"] = {name: list(self.provenance[name]) for name in self.classes}
        if self.notes:
            content["notes"] = list(self.notes)
        return content

    def to_bytes(self) -> bytes:
        """Return the content of a ladder file."""
        return (json.dumps(self.to_json(), ensure_ascii=False, indent=1) + "\n").encode()

    def save(self, path: str | Path) -> None:
        """Write the ladder to a JSON file; its folder is created if missing."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(self.to_bytes())
