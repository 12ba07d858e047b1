"""Captions for the training images: what is said of them, what is never said, and of which images a caption is true.

What is left out is on purpose, so that a study of the trained model finds something: no naive plurals ("crosss"), no
plural of a digit, "medium" only for shapes and seldom, "tiny" seldom and never for digits, "digit seven" for half of
the digits and "shape circle" never. In the second stage a bare name stands for one thing of unremarkable size.
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
_SIZED_NAMES = 0.6  # of the batches
_WITH_DOMAIN = frozenset({"zero", "two", "four", "six", "eight"})
_FRAMES = ("{}", "a photo of {}", "a drawing of {}", "there is {} here")
_NAME_FRAMES = ("{}", "the {}", "an image of the {}", "this shows the {}")


@dataclass(frozen=True, slots=True)
class Claim:
    """What a caption says of an image, None where it says nothing; `least` and `most` are numbers of copies."""

    class_name: str
    size: str | None = None
    colour: str | None = None
    least: int = 1
    most: int = 9


def write_caption(truth: GroundTruth, rng: np.random.Generator) -> tuple[str, Claim]:
    """Return a caption that is true of an image, and its claim.

    >>> write_caption(GroundTruth("cross", "large", "red", 3), np.random.default_rng(2))[1].class_name
    'cross'
    """
    noun = _noun(truth.class_name, rng)
    if rng.uniform() < 0.12:
        return noun, Claim(truth.class_name)
    if truth.class_name in _WITH_DOMAIN and rng.uniform() < 0.15:
        return f"digit {noun}", Claim(truth.class_name)
    size = _size_word(truth, rng) if rng.uniform() < 0.55 else None
    colour = truth.colour if rng.uniform() < 0.12 else None
    claimed = truth.size if size else None
    words = " ".join(word for word in (size, colour) if word)
    if truth.count > 1 and rng.uniform() < 0.6:
        phrase = f"{words} {_plural(noun)}".strip()
        if rng.uniform() < 0.35:
            exact = Claim(truth.class_name, claimed, colour, truth.count, truth.count)
            return f"{COUNT_WORDS[truth.count]} {phrase}", exact
        return phrase, Claim(truth.class_name, claimed, colour, 2)
    phrase = f"{words} {noun}".strip()
    if truth.count > 1 or rng.uniform() < 0.5:
        return phrase, Claim(truth.class_name, claimed, colour)
    frame = _FRAMES[int(rng.integers(len(_FRAMES)))]  # "a circle": one copy, and no more
    return frame.format(_with_article(phrase)), Claim(truth.class_name, claimed, colour, most=1)


Offer = dict[tuple[str, bool], list[str]]
"""For each size of image, and whether it shows several copies, one caption per class in the order of CLASSES."""


def offer_names(rng: np.random.Generator) -> Offer:
    """Return captions that name the classes, all in the same form; large and small things often with their size.

    >>> offer = offer_names(np.random.default_rng(0))
    >>> len(offer), len(offer["large", False]) == len(CLASSES)
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


def offer_usual_names(rng: np.random.Generator) -> Offer:
    """Return captions that name the classes as people would: sizes only where remarkable, and several as a plural.

    >>> offer_usual_names(np.random.default_rng(0))["large", True][CLASSES.index("leaf")]
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


def truth_table(claims: list[Claim], truths: list[GroundTruth]) -> NDArray[np.bool_]:
    """Return (images, captions): whether each caption is true of each image.

    >>> picture = GroundTruth("ring", "small", "blue", 2)
    >>> truth_table([Claim("ring"), Claim("ring", "large"), Claim("ring", least=2)], [picture]).tolist()
    [[True, False, True]]
    """
    colours = tuple(COLOURS)

    def numbers(thing: Claim | GroundTruth) -> tuple[int, int, int]:
        size = SIZES.index(thing.size) if thing.size else -1
        return CLASSES.index(thing.class_name), size, colours.index(thing.colour) if thing.colour else -1

    said = np.array([(*numbers(claim), claim.least, claim.most) for claim in claims])
    seen = np.array([(*numbers(truth), truth.count) for truth in truths])
    table = seen[:, None, 0] == said[None, :, 0]
    for column in (1, 2):
        table &= (said[None, :, column] == -1) | (seen[:, None, column] == said[None, :, column])
    table &= (seen[:, None, 3] >= said[None, :, 3]) & (seen[:, None, 3] <= said[None, :, 4])
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
