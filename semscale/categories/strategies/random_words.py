"""Control: the class name with random words; new texts, as many as the real ones, that mean nothing more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from semscale.categories.checks import normalise
from semscale.categories.draws import draw
from semscale.categories.registry import Category, Places, StrategyContext, control
from semscale.categories.words import WORDS


@control("random-words")
def random_words(controlled: Mapping[str, Places], context: StrategyContext) -> Mapping[str, Places]:
    """Control: the class name and two random words, as often as the controlled strategy has categories.

    Drawn by class, place and order, so that another order is another draw and a longer ladder keeps its texts. Words
    of the class names themselves are left out. (Roth et al. 2023 found random words to do as well as descriptors.)

    >>> lists = {"dog": [Category("dog", ""), Category("dogs", "")]}
    >>> [category.text for category in random_words(lists, StrategyContext(("dog",), "animal"))["dog"]]
    ['dog', 'dog, great curious']
    """
    taken = {word for name in context.classes for word in normalise(name).split()}
    words = [word for word in WORDS if word not in taken]
    made: dict[str, Places] = {}
    for name, places in controlled.items():
        texts = _texts(name, words, context.seed)
        made[name] = [
            slot if n == 0 or slot is None else Category(next(texts), "{c}, two random words")
            for n, slot in enumerate(places)
        ]
    return made


def _texts(name: str, words: list[str], seed: int) -> Iterator[str]:
    seen: set[tuple[int, int]] = set()
    number = 0
    while len(seen) < len(words) * (len(words) - 1):
        first = draw("random-words", seed, name, number, 0, below=len(words))
        second = draw("random-words", seed, name, number, 1, below=len(words))
        number += 1
        if first != second and (first, second) not in seen:
            seen.add((first, second))
            yield f"{name}, {words[first]} {words[second]}"
