"""Builder of ladders: a strategy's arranged categories, cut at the scale of each step."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from semscale.categories.arrangement import Arrangement, CollisionPolicy, abbreviate, arrangements
from semscale.categories.ladder import Ladder, LadderStep
from semscale.categories.strategy_registry import StrategyContext
from semscale.categories.text_checks import check_classes, check_texts
from semscale.common.errors import CategoryError

Scales = Literal["linear", "exponential"] | Sequence[int]
ExhaustionPolicy = Literal["stop", "stay"]
"""On exhaustion, when a class runs out of categories: stop the ladder there, or continue with the other classes."""

CLIP_TOKENS = 77
"""Context length of CLIP's text encoder in tokens, start and end tokens included."""

# The first split of CLIP's tokenizer: clitics, runs of letters, single digits, runs of anything else.
_PIECES = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|[^\s\w]+|_+", re.IGNORECASE)
_LETTERS_PER_TOKEN = 3


def estimate_tokens(text: str) -> int:
    """Return a conservative estimate of a text's number of tokens, without the tokenizer's vocabulary.

    The text is split into pieces as CLIP's tokenizer does; an English piece counts a token for every three letters,
    rounded up (common words are one token, rare ones have three to four letters per token), any other piece one for
    every byte. Start and end add two. Ordinary English has about half as many tokens; of 20,000 nouns of WordNet 97 %
    have no more, the others (Latin names of species) one or two.

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
    """Specification of a ladder, for all its orders.

    Attributes:
        dataset: name of the dataset.
        classes: its class names, two or more.
        domain: the common noun of all classes, such as "animal".
        strategy: name of a registered strategy.
        steps: number of category sets.
        scales: `linear` (1, 2, 3, ...), `exponential` (1, 2, 4, ... up to the available categories), or a list.
        options: the options of the strategy.
        short: the policy on exhaustion, when a class runs out of categories: "stop" ends the ladder there, so that more
            steps are refused; "stay" continues with the other classes and notes the unequal counts.
        shared: the policy on collision, a text of two classes: "refuse" it, or "drop" it from both (but not a name).
        label: the strategy's name in tables; default: its name. Two arms of one strategy need two labels.
        count_tokens: text -> number of tokens, start and end included; texts over CLIP's 77 are noted.
    """

    dataset: str
    classes: Sequence[str]
    domain: str
    strategy: str
    steps: int = 12
    scales: Scales = "linear"
    options: Mapping[str, object] = field(default_factory=dict)
    short: ExhaustionPolicy = "stop"
    shared: CollisionPolicy = "refuse"
    label: str | None = None
    count_tokens: Callable[[str], int] = estimate_tokens

    @property
    def where(self) -> str:
        """Return dataset and strategy, for messages."""
        return f"dataset {self.dataset}, strategy {self.label or self.strategy}"


def build_ladder(spec: LadderSpec, order: int = 0) -> Ladder:
    """Build one ladder: each class's list from the strategy, permuted, and cut at each scale.

    A text that a class has already (after `text_key`: "sheep" as the plural of "sheep") is dropped. Where a position
    means the same in every class, as with templates, it is left empty, so that a step adds the same template to every
    class; else empty positions are removed. `LadderStep.short_classes` names the classes that then have fewer
    categories than the scale, `n_categories` counts the actual ones. A position empty in all classes is no step.

    Args:
        spec: the specification.
        order: 0 for the strategy's order, k > 0 for a seeded permutation of the equivalents.

    Raises:
        CategoryError: too few classes, an empty text, a text of two classes, an unknown strategy or option, or more
            steps than the strategy has categories.

    >>> ladder = build_ladder(LadderSpec("pets", ["cat", "dog"], "animal", "templates", steps=3))
    >>> ladder.steps[2].categories["dog"]
    ('dog', 'dogs', 'Large dog')
    >>> ladder.flatten().texts
    ['cat', 'dog', 'cats', 'dogs', 'Large cat', 'Large dog']
    """
    return build_ladders(spec, (order,))[0]


def build_ladders(spec: LadderSpec, orders: Sequence[int] = (0,)) -> tuple[Ladder, ...]:
    """Build a ladder for each order, see :func:`build_ladder`; the strategy makes its lists once.

    All orders have the same texts at the last step (unless `steps` cuts the lists).

    Raises:
        CategoryError: as :func:`build_ladder`, and for no order or a repeated one.

    >>> spec = LadderSpec("pets", ["cat", "dog"], "animal", "templates")
    >>> first, second = build_ladders(spec, orders=(0, 1))
    >>> second.steps[1].categories["dog"], set(first.flatten().texts) == set(second.flatten().texts)
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
    lengths = {name: len(categories) for name, categories in arrangement.lists.items()}
    available = min(lengths.values()) if spec.short == "stop" else max(lengths.values())
    hint = None
    if available < max(lengths.values()):
        names = [name for name, length in lengths.items() if length == available]
        hint = f"{abbreviate(names)} {'has' if len(names) == 1 else 'have'} no more; short: stay continues without"
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
            name: tuple(category.provenance for category in categories[: last.scale] if category is not None)
            for name, categories in arrangement.lists.items()
        },
        repeats=arrangement.repeats,
        notes=(*arrangement.notes, *_notes(last, spec.count_tokens)),
    )


def _step(scale: int, arrangement: Arrangement) -> LadderStep:
    texts = {
        name: tuple(category.text for category in categories[:scale] if category is not None)
        for name, categories in arrangement.lists.items()
    }
    return LadderStep(scale, sum(map(len, texts.values())), texts)


def _notes(last: LadderStep, count_tokens: Callable[[str], int]) -> list[str]:
    notes = []
    if last.short_classes:
        counts = [f"{name} {len(last.categories[name])}" for name in last.short_classes]
        notes.append(f"fewer than {last.scale} categories at the last step: {abbreviate(counts)}")
    long = [text for texts in last.categories.values() for text in texts if count_tokens(text) > CLIP_TOKENS]
    if long:
        starts = abbreviate([text[:60] for text in long])
        notes.append(f"over CLIP's {CLIP_TOKENS} tokens, so perhaps cut off: {starts}")
    return notes


def step_scales(steps: int, available: int, scales: Scales, where: str, hint: str | None = None) -> list[int]:
    """Return the scale (categories per class) of each step.

    Args:
        steps: the requested number of steps; not used with a list of scales.
        available: the number of categories per class.
        scales: `linear` is 1, 2, 3, ...: exactly `steps` of them. `exponential` is 1, 2, 4, 8, ...: as many as are
            available, at most `steps`. A list is checked and returned.
        where: names the ladder in the message.
        hint: what to do when there are too few categories.

    Raises:
        CategoryError: no step, more than are available, unknown scales, or a list that does not increase from 1.

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
        requested = list(range(1, steps + 1))
        found = f"steps = {steps}"
    else:
        requested = _checked(scales, where)
        found = f"scales up to {requested[-1]}"
    if requested[-1] > available:
        raise CategoryError(
            "more steps than the strategy has", where=where, found=found, expected=f"at most {available}", hint=hint
        )
    return requested


def _checked(scales: Sequence[int], where: str) -> list[int]:
    whole = [scale for scale in scales if isinstance(scale, int) and not isinstance(scale, bool)]
    # the class names alone are the baseline of every other step
    if len(whole) < len(scales) or whole[:1] != [1] or any(b <= a for a, b in pairwise(whole)):
        raise CategoryError(
            "the scales do not start at 1 and increase",
            where=where,
            found=str(list(scales)),
            expected="such as 1, 2, 4",
        )
    return whole
