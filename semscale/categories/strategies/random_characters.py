"""Control: the class name with random letters; new texts that mean nothing at all."""

from __future__ import annotations

from collections.abc import Mapping

from semscale.categories.draws import draw
from semscale.categories.registry import Category, Places, StrategyContext, control

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_LENGTH = 8


@control("random-characters")
def random_characters(controlled: Mapping[str, Places], context: StrategyContext) -> Mapping[str, Places]:
    """Control: the class name and eight random letters, as often as the controlled strategy has categories.

    Drawn by class, place and order. Two texts are the same with a chance of 5e-12.

    >>> lists = {"dog": [Category("dog", ""), Category("dogs", "")]}
    >>> [category.text for category in random_characters(lists, StrategyContext(("dog",), "animal"))["dog"]]
    ['dog', 'dog, tmvotpqo']
    """
    return {
        name: [
            slot if n == 0 or slot is None else Category(f"{name}, {_noise(context.seed, name, n)}", "{c}, noise")
            for n, slot in enumerate(places)
        ]
        for name, places in controlled.items()
    }


def _noise(seed: int, name: str, place: int) -> str:
    return "".join(
        _LETTERS[draw("random-characters", seed, name, place, letter, below=len(_LETTERS))] for letter in range(_LENGTH)
    )
