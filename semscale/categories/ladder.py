"""The ladder: the nested sequence of category sets of one dataset, strategy and order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from semscale.categories.checks import check_classes, check_texts
from semscale.categories.offers import Offer, make_offers
from semscale.categories.orders import Scales, step_scales
from semscale.categories.slots import Shared
from semscale.categories.tokens import CLIP_TOKENS, estimate_tokens
from semscale.errors import SemscaleError

Short = Literal["stop", "stay"]


@dataclass(frozen=True)
class LadderStep:
    """One category set of a ladder.

    Attributes:
        scale: the categories per class at this step (a class that ran out of distinct texts has fewer).
        n_categories: all categories offered at this step, repetitions included.
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

    A text that a class is offered again is the same question to the model, so it is asked once: a repetition counts in
    `LadderStep.n_categories` and adds nothing here. That is why the control `duplicates` moves no prediction, to the
    last bit, whatever the scales and the matrix product: all its steps are the texts of its first.

    Attributes:
        texts: m texts, all different; by step joined, then by class, then by order within the class.
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
        repeats: whether a class may be offered the same text again, as in the control `duplicates`.
        notes: what a reader should know of these categories: texts left out, classes with fewer than the others,
            texts that CLIP may cut off.
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
        """SHA-256 over all but provenance and notes, in hexadecimal: the identity of a ladder's content."""
        content = {key: value for key, value in self.to_json().items() if key not in ("provenance", "notes")}
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
    options: Mapping[str, object] | None = None,
    *,
    short: Short = "stop",
    shared: Shared = "refuse",
    label: str | None = None,
    count_tokens: Callable[[str], int] = estimate_tokens,
) -> Ladder:
    """Build the ladder of a dataset: each class's list from the strategy, permuted, and cut at each scale.

    A text that a class has already (after `normalise`: "sheep" as its own plural) is dropped. Where a place means the
    same in every class, as with templates, it stays empty, so that a step adds the same template to every class; else
    the class's categories close up. `LadderStep.short_classes` names the classes that then have fewer than the scale,
    and `n_categories` counts what is really offered. A place that is empty in every class is no step.

    Args:
        dataset: name of the dataset.
        classes: its class names, two or more.
        domain: the word for what all classes are.
        strategy: name of a registered strategy.
        steps: how many category sets.
        scales: `linear` (1, 2, 3, ...), `exponential` (1, 2, 4, ... as far as there are categories), or a list.
        order: 0 for the strategy's own order, k > 0 for a seeded permutation of the equivalents.
        options: the strategy's own options.
        short: when a class runs out of categories: "stop" ends the ladder there, so that more steps are refused;
            "stay" goes on for the other classes and notes the unequal counts.
        shared: a text under two classes is refused, or with "drop" taken from both (a class name stays with its own
            class).
        label: what tables call the strategy; its name unless given. Two arms of one strategy need two labels.
        count_tokens: text -> its number of tokens, start and end included; texts over CLIP's 77 are noted.

    Raises:
        SemscaleError: for too few classes, an empty text, a text under two classes, an unknown strategy or option, or
            more steps than it has.

    >>> ladder = build_ladder("pets", ["cat", "dog"], "animal", "templates", steps=3)
    >>> ladder.steps[2].categories["dog"]
    ('dog', 'dogs', 'Large dog')
    >>> ladder.flatten().texts
    ['cat', 'dog', 'cats', 'dogs', 'Large cat', 'Large dog']
    """
    return build_ladders(
        dataset,
        classes,
        domain,
        strategy,
        steps,
        scales,
        orders=(order,),
        options=options,
        short=short,
        shared=shared,
        label=label,
        count_tokens=count_tokens,
    )[0]


def build_ladders(
    dataset: str,
    classes: Sequence[str],
    domain: str,
    strategy: str,
    steps: int = 12,
    scales: Scales = "linear",
    orders: Sequence[int] = (0,),
    options: Mapping[str, object] | None = None,
    *,
    short: Short = "stop",
    shared: Shared = "refuse",
    label: str | None = None,
    count_tokens: Callable[[str], int] = estimate_tokens,
) -> tuple[Ladder, ...]:
    """Build a ladder for each order, see :func:`build_ladder`; the strategy makes its lists once.

    All orders hold the same texts at the last step (unless `steps` cuts the lists), so step and order come apart.

    Raises:
        SemscaleError: as :func:`build_ladder`, and for no order or an order that is given twice.

    >>> one, other = build_ladders("pets", ["cat", "dog"], "animal", "templates", orders=(0, 1))
    >>> other.steps[1].categories["dog"], set(one.flatten().texts) == set(other.flatten().texts)
    (('dog', 'Medium dogs'), True)
    """
    where = f"dataset {dataset}, strategy {label or strategy}"
    check_classes(classes, where)
    if short not in ("stop", "stay"):
        raise SemscaleError("unknown policy for short classes", where=where, found=repr(short), expected="stop or stay")
    return tuple(
        _build(dataset, tuple(classes), label or strategy, steps, scales, short, count_tokens, offer, where)
        for offer in make_offers(tuple(classes), domain, strategy, options or {}, orders, shared, where)
    )


def _build(
    dataset: str,
    classes: tuple[str, ...],
    strategy: str,
    steps: int,
    scales: Scales,
    short: Short,
    count_tokens: Callable[[str], int],
    offer: Offer,
    where: str,
) -> Ladder:
    lengths = {name: len(slots) for name, slots in offer.slots.items()}
    available = min(lengths.values()) if short == "stop" else max(lengths.values())
    hint = None
    if available < max(lengths.values()):
        names = [name for name, length in lengths.items() if length == available]
        hint = f"{_some(names)} {'has' if len(names) == 1 else 'have'} no more; short: stay goes on without"
    built: list[LadderStep] = []
    for scale in step_scales(steps, available, scales, where, hint):
        step = _step(scale, offer)
        if not built or step.n_categories > built[-1].n_categories:
            built.append(step)
    last = built[-1]
    check_texts(last.categories, where, repeats=offer.repeats)
    provenance = {
        name: tuple(slot.provenance for slot in slots[: last.scale] if slot is not None)
        for name, slots in offer.slots.items()
    }
    notes = (*offer.notes, *_notes(last, count_tokens))
    return Ladder(dataset, strategy, offer.order, classes, tuple(built), provenance, offer.repeats, notes)


def _step(scale: int, offer: Offer) -> LadderStep:
    categories = {
        name: tuple(slot.text for slot in slots[:scale] if slot is not None) for name, slots in offer.slots.items()
    }
    return LadderStep(scale, sum(map(len, categories.values())), categories)


def _notes(last: LadderStep, count_tokens: Callable[[str], int]) -> list[str]:
    notes = []
    if last.short_classes:
        counts = [f"{name} {len(last.categories[name])}" for name in last.short_classes]
        notes.append(f"fewer than {last.scale} categories at the last step: {_some(counts)}")
    long = [text for texts in last.categories.values() for text in texts if count_tokens(text) > CLIP_TOKENS]
    if long:
        notes.append(f"over CLIP's {CLIP_TOKENS} tokens, so perhaps cut off: {_some([text[:60] for text in long])}")
    return notes


def _some(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
