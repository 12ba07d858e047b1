"""Building ladders: a strategy's arranged categories, cut at the scale of each step."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from semscale.categories.arrangement import Arrangement, Shared, arrangements, shorten
from semscale.categories.ladder import Ladder, LadderStep
from semscale.categories.strategy_registry import StrategyContext
from semscale.categories.text_checks import check_classes, check_texts
from semscale.common.errors import CategoryError

Scales = Literal["linear", "exponential"] | Sequence[int]
Short = Literal["stop", "stay"]

CLIP_TOKENS = 77
"""The tokens that CLIP's text tower reads, start and end marks included."""

# CLIP's tokenizer first splits a text so: clitics, runs of letters, single digits, runs of anything else.
_PIECES = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|[^\s\w]+|_+", re.IGNORECASE)
_LETTERS_PER_TOKEN = 3


def estimate_tokens(text: str) -> int:
    """Return about how many tokens a text has, on the safe side, without the tokenizer's vocabulary.

    The text is split into pieces as CLIP's tokenizer does; an English piece counts a token for every three letters
    begun (common words are one token whatever their length, rare ones have three to four letters per token), any
    other piece one for every byte. Two more mark start and end. Ordinary English has about half as many tokens; of
    20,000 nouns of WordNet 97 % have no more, the others (Latin names of species) one or two.

    >>> estimate_tokens("a photo of a dog"), estimate_tokens("犬")
    (8, 5)
    """
    return 2 + sum(map(_tokens_of_piece, _PIECES.findall(text)))


def _tokens_of_piece(piece: str) -> int:
    if piece.isascii() and piece.isalpha():
        return -(-len(piece) // _LETTERS_PER_TOKEN)
    return len(piece.encode())


@dataclass(frozen=True)
class LadderSpec:
    """What ladders are built from.

    Attributes:
        dataset: name of the dataset.
        classes: its class names, two or more.
        domain: the word for what all classes are.
        strategy: name of a registered strategy.
        steps: number of category sets.
        scales: `linear` (1, 2, 3, ...), `exponential` (1, 2, 4, ... as far as there are categories), or a list.
        options: the strategy's own options.
        short: when a class runs out of categories: "stop" ends the ladder there, so that more steps are refused;
            "stay" continues for the other classes and notes the unequal counts.
        shared: a text under two classes is refused, or with "drop" taken from both (a class name stays with its own
            class).
        label: what tables call the strategy; default: its name. Two arms of one strategy need two labels.
        count_tokens: text -> its number of tokens, start and end included; texts over CLIP's 77 are noted.
    """

    dataset: str
    classes: Sequence[str]
    domain: str
    strategy: str
    steps: int = 12
    scales: Scales = "linear"
    options: Mapping[str, object] = field(default_factory=dict)
    short: Short = "stop"
    shared: Shared = "refuse"
    label: str | None = None
    count_tokens: Callable[[str], int] = estimate_tokens

    @property
    def where(self) -> str:
        """Dataset and strategy, for messages."""
        return f"dataset {self.dataset}, strategy {self.label or self.strategy}"


def build_ladder(spec: LadderSpec, order: int = 0) -> Ladder:
    """Build one ladder: each class's list from the strategy, permuted, and cut at each scale.

    A text that a class has already (after `text_key`: "sheep" as its own plural) is dropped. Where a position means the
    same in every class, as with templates, it stays empty, so that a step adds the same template to every class; else
    the class's categories close up. `LadderStep.short_classes` names the classes that then have fewer than the scale,
    and `n_categories` counts what is really offered. A position that is empty in every class is no step.

    Args:
        spec: what to build.
        order: 0 for the strategy's own order, k > 0 for a seeded permutation of the equivalents.

    Raises:
        CategoryError: for too few classes, an empty text, a text under two classes, an unknown strategy or option, or
            more steps than it has.

    >>> ladder = build_ladder(LadderSpec("pets", ["cat", "dog"], "animal", "templates", steps=3))
    >>> ladder.steps[2].categories["dog"]
    ('dog', 'dogs', 'Large dog')
    >>> ladder.flatten().texts
    ['cat', 'dog', 'cats', 'dogs', 'Large cat', 'Large dog']
    """
    return build_ladders(spec, (order,))[0]


def build_ladders(spec: LadderSpec, orders: Sequence[int] = (0,)) -> tuple[Ladder, ...]:
    """Build a ladder for each order, see :func:`build_ladder`; the strategy makes its lists once.

    All orders hold the same texts at the last step (unless `steps` cuts the lists).

    Raises:
        CategoryError: as :func:`build_ladder`, and for no order or an order that is given twice.

    >>> spec = LadderSpec("pets", ["cat", "dog"], "animal", "templates")
    >>> one, other = build_ladders(spec, orders=(0, 1))
    >>> other.steps[1].categories["dog"], set(one.flatten().texts) == set(other.flatten().texts)
    (('dog', 'Medium dogs'), True)
    """
    check_classes(spec.classes, spec.where)
    if spec.short not in ("stop", "stay"):
        raise CategoryError(
            "unknown policy for short classes", where=spec.where, found=repr(spec.short), expected="stop or stay"
        )
    context = StrategyContext(tuple(spec.classes), spec.domain, spec.options)
    return tuple(
        _build(spec, arrangement)
        for arrangement in arrangements(context, spec.strategy, orders, spec.shared, spec.where)
    )


def _build(spec: LadderSpec, arrangement: Arrangement) -> Ladder:
    lengths = {name: len(slots) for name, slots in arrangement.slots.items()}
    available = min(lengths.values()) if spec.short == "stop" else max(lengths.values())
    hint = None
    if available < max(lengths.values()):
        names = [name for name, length in lengths.items() if length == available]
        hint = f"{shorten(names)} {'has' if len(names) == 1 else 'have'} no more; short: stay goes on without"
    steps: list[LadderStep] = []
    for scale in step_scales(spec.steps, available, spec.scales, spec.where, hint):
        step = _step(scale, arrangement)
        if not steps or step.n_categories > steps[-1].n_categories:
            steps.append(step)
    last = steps[-1]
    check_texts(last.categories, spec.where, repeats=arrangement.repeats)
    return Ladder(
        dataset=spec.dataset,
        strategy=spec.label or spec.strategy,
        order=arrangement.order,
        classes=tuple(spec.classes),
        steps=tuple(steps),
        provenance={
            name: tuple(slot.provenance for slot in slots[: last.scale] if slot is not None)
            for name, slots in arrangement.slots.items()
        },
        repeats=arrangement.repeats,
        notes=(*arrangement.notes, *_notes(last, spec.count_tokens)),
    )


def _step(scale: int, arrangement: Arrangement) -> LadderStep:
    categories = {
        name: tuple(slot.text for slot in slots[:scale] if slot is not None)
        for name, slots in arrangement.slots.items()
    }
    return LadderStep(scale, sum(map(len, categories.values())), categories)


def _notes(last: LadderStep, count_tokens: Callable[[str], int]) -> list[str]:
    notes = []
    if last.short_classes:
        counts = [f"{name} {len(last.categories[name])}" for name in last.short_classes]
        notes.append(f"fewer than {last.scale} categories at the last step: {shorten(counts)}")
    long = [text for texts in last.categories.values() for text in texts if count_tokens(text) > CLIP_TOKENS]
    if long:
        notes.append(f"over CLIP's {CLIP_TOKENS} tokens, so perhaps cut off: {shorten([text[:60] for text in long])}")
    return notes


def step_scales(steps: int, available: int, scales: Scales, where: str, hint: str | None = None) -> list[int]:
    """Return the scale (categories per class) of each step.

    Args:
        steps: how many steps are asked for; a list of scales says it itself.
        available: how many categories every class has.
        scales: `linear` is 1, 2, 3, ...: exactly `steps` of them. `exponential` is 1, 2, 4, 8, ...: as many
            as are available, at most `steps`. A list is taken as it is.
        where: what the ladder belongs to, for the message.
        hint: what to do when there are too few categories.

    Raises:
        CategoryError: for fewer than one step, for more than are available, for unknown scales, and for a list that
            does not begin with 1 and rise.

    >>> step_scales(3, 12, "linear", "demo"), step_scales(12, 12, "exponential", "demo")
    ([1, 2, 3], [1, 2, 4, 8])
    >>> step_scales(12, 12, [1, 3, 12], "demo")
    [1, 3, 12]
    """
    if isinstance(scales, str):
        if scales not in ("linear", "exponential"):
            expected = "linear, exponential or a list of whole numbers"
            raise CategoryError("unknown scales", where=where, found=repr(scales), expected=expected)
        if steps < 1:
            raise CategoryError(
                "a ladder needs at least one step", where=where, found=f"steps = {steps}", expected="1 or more"
            )
        if scales == "exponential" and available >= 1:
            return [2**k for k in range(steps) if 2**k <= available]
        asked = list(range(1, steps + 1))
        found = f"steps = {steps}"
    else:
        asked = _listed(scales, where)
        found = f"scales up to {asked[-1]}"
    if asked[-1] > available:
        raise CategoryError(
            "more steps than the strategy has", where=where, found=found, expected=f"at most {available}", hint=hint
        )
    return asked


def _listed(scales: Sequence[int], where: str) -> list[int]:
    whole = [scale for scale in scales if isinstance(scale, int) and not isinstance(scale, bool)]
    # the class names alone are what every other step is measured against
    if len(whole) < len(scales) or whole[:1] != [1] or any(b <= a for a, b in pairwise(whole)):
        raise CategoryError(
            "the scales do not begin with 1 and rise", where=where, found=str(list(scales)), expected="such as 1, 2, 4"
        )
    return whole
