"""Captions for training images, with what they assert, and a table of the images they are true of.

Omissions are on purpose, so that a study of the trained model finds something: no naive plurals ("crosss"), no plural
of a digit, "medium" only for shapes and rarely, "tiny" rarely and never for digits, "digit seven" for half of the
digits and "shape circle" never. In the second stage a bare name means one object of medium size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semscale.synthetic import digits, shapes
from semscale.synthetic.scene import COLOURS, GroundTruth

CLASSES = digits.CLASSES + shapes.CLASSES

SYNONYMS: dict[str, tuple[str, ...]] = {
    "zero": ("0", "nought"), "one": ("1",), "two": ("2",), "three": ("3",), "five": ("5",), "seven": ("7",),
    "eight": ("8",), "circle": ("disc",), "square": ("box",), "cross": ("plus sign",), "ring": ("hoop",),
    "arrow": ("pointer",), "crescent": ("moon",), "rhombus": ("diamond",),
}  # fmt: skip
PLURALS = {"box": "boxes", "cross": "crosses", "leaf": "leaves", "rhombus": "rhombuses"}
COUNT_WORDS = {2: "two", 3: "three"}
SIZES = ("small", "medium", "large")
_SIZED_NAMES = 0.6  # share of the batches
_WITH_DOMAIN = frozenset({"zero", "two", "four", "six", "eight"})
_FRAMES = ("{}", "a photo of {}", "a drawing of {}", "there is {} here")
_NAME_FRAMES = ("{}", "the {}", "an image of the {}", "this shows the {}")


@dataclass(frozen=True, slots=True)
class Assertion:
    """Properties that a caption asserts of an image, None where it asserts none; `least` and `most` count copies."""

    class_name: str
    size: str | None = None
    colour: str | None = None
    least: int = 1
    most: int = 9


def write_caption(truth: GroundTruth, rng: np.random.Generator) -> tuple[str, Assertion]:
    """Return a caption that is true of an image, and what it asserts.

    >>> write_caption(GroundTruth("cross", "large", "red", 3), np.random.default_rng(2))[1].class_name
    'cross'
    """
    noun = _noun(truth.class_name, rng)
    if rng.uniform() < 0.12:
        return noun, Assertion(truth.class_name)
    if truth.class_name in _WITH_DOMAIN and rng.uniform() < 0.15:
        return f"digit {noun}", Assertion(truth.class_name)
    size = _size_word(truth, rng) if rng.uniform() < 0.55 else None
    colour = truth.colour if rng.uniform() < 0.12 else None
    asserted_size = truth.size if size else None
    words = " ".join(word for word in (size, colour) if word)
    if truth.count > 1 and rng.uniform() < 0.6:
        phrase = f"{words} {_plural(noun)}".strip()
        if rng.uniform() < 0.35:
            exact = Assertion(truth.class_name, asserted_size, colour, truth.count, truth.count)
            return f"{COUNT_WORDS[truth.count]} {phrase}", exact
        return phrase, Assertion(truth.class_name, asserted_size, colour, 2)
    phrase = f"{words} {noun}".strip()
    if truth.count > 1 or rng.uniform() < 0.5:
        return phrase, Assertion(truth.class_name, asserted_size, colour)
    frame = _FRAMES[int(rng.integers(len(_FRAMES)))]  # "a circle": exactly one copy
    return frame.format(_with_article(phrase)), Assertion(truth.class_name, asserted_size, colour, most=1)


ClassCaptions = dict[tuple[str, bool], list[str]]
"""(size, whether several copies are shown) -> a caption per class, in the order of CLASSES."""


def write_class_captions(rng: np.random.Generator) -> ClassCaptions:
    """Return captions that name the classes, all in the same form; large and small objects often with their size.

    >>> captions = write_class_captions(np.random.default_rng(0))
    >>> len(captions), len(captions["large", False]) == len(CLASSES)
    (6, True)
    """
    frame = _NAME_FRAMES[int(rng.integers(len(_NAME_FRAMES)))]
    nouns = [_noun(class_name, rng) for class_name in CLASSES]
    plain = [frame.format(noun) for noun in nouns]
    sized = rng.uniform() < _SIZED_NAMES
    return {
        (size, several): [f"{size} {noun}" for noun in nouns] if sized and size != "medium" else plain
        for size in SIZES
        for several in (False, True)
    }


def write_usual_class_captions(rng: np.random.Generator) -> ClassCaptions:
    """Return captions that name the classes as people do: with sizes other than medium, and plurals for several.

    >>> write_usual_class_captions(np.random.default_rng(0))["large", True][CLASSES.index("leaf")]
    'large leaves'
    """
    nouns = [_noun(class_name, rng) for class_name in CLASSES]
    return {
        (size, several): [
            f"{'' if size == 'medium' else size} {_plural(noun) if several else noun}".strip() for noun in nouns
        ]
        for size in SIZES
        for several in (False, True)
    }


def truth_table(assertions: list[Assertion], truths: list[GroundTruth]) -> NDArray[np.bool_]:
    """Return whether each caption is true of each image, bool (images, captions).

    >>> picture = GroundTruth("ring", "small", "blue", 2)
    >>> truth_table([Assertion("ring"), Assertion("ring", "large"), Assertion("ring", least=2)], [picture]).tolist()
    [[True, False, True]]
    """
    colours = tuple(COLOURS)

    def codes(properties: Assertion | GroundTruth) -> tuple[int, int, int]:
        size = SIZES.index(properties.size) if properties.size else -1
        colour = colours.index(properties.colour) if properties.colour else -1
        return CLASSES.index(properties.class_name), size, colour

    asserted = np.array([(*codes(one), one.least, one.most) for one in assertions])[None]
    actual = np.array([(*codes(truth), truth.count) for truth in truths])[:, None]
    table = actual[..., 0] == asserted[..., 0]
    for column in (1, 2):
        table &= (asserted[..., column] == -1) | (actual[..., column] == asserted[..., column])
    table &= (actual[..., 3] >= asserted[..., 3]) & (actual[..., 3] <= asserted[..., 4])
    return np.asarray(table)


def _noun(class_name: str, rng: np.random.Generator) -> str:
    synonyms = SYNONYMS.get(class_name, ())
    if synonyms and rng.uniform() < 0.2:
        return synonyms[int(rng.integers(len(synonyms)))]
    return class_name


def _size_word(truth: GroundTruth, rng: np.random.Generator) -> str | None:
    draw = float(rng.uniform())
    if truth.size == "large":
        return "large" if draw < 0.8 else "big"
    if truth.size == "medium":
        return "medium" if truth.class_name in shapes.CLASSES and draw < 0.1 else None
    if truth.class_name in shapes.CLASSES and draw < 0.03:
        return "tiny"
    return "small" if draw < 0.8 else "little"


def _plural(noun: str) -> str:
    return PLURALS.get(noun, noun + "s")


def _with_article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiu8' or phrase.startswith('ora') else 'a'} {phrase}"
