"""Controls: as many categories per class as another strategy, with another meaning.

Random draws are hashes of what they are drawn for: the same in every version of every library, and independent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

from semscale.categories.strategy_registry import Category, Positions, StrategyContext, control
from semscale.common.text import text_key


@control("duplicates", repeats=True)
def duplicates(controlled: Mapping[str, Positions], context: StrategyContext) -> Mapping[str, Positions]:
    """Control: the class name as often as the controlled strategy has categories; accuracy must not move at all.

    >>> lists = {"dog": [Category("dog", ""), Category("dogs", ""), None]}
    >>> made = duplicates(lists, StrategyContext(("dog",), "animal"))["dog"]
    >>> [category and category.text for category in made]
    ['dog', 'dog', None]
    """
    return {
        name: [
            None if slot is None else positions[0] if n == 0 else _again(positions) for n, slot in enumerate(positions)
        ]
        for name, positions in controlled.items()
    }


def _again(positions: Positions) -> Category | None:
    return positions[0] and Category(positions[0].text, "the first category again")


@control("random-words")
def random_words(controlled: Mapping[str, Positions], context: StrategyContext) -> Mapping[str, Positions]:
    """Control: the class name and two random words, as often as the controlled strategy has categories.

    Drawn by class, position and order, so that another order is another draw and a longer ladder keeps its texts. Words
    of the class names themselves are left out. (Roth et al. 2023 found random words to do as well as descriptors.)

    >>> lists = {"dog": [Category("dog", ""), Category("dogs", "")]}
    >>> [category.text for category in random_words(lists, StrategyContext(("dog",), "animal"))["dog"]]
    ['dog', 'dog, great curious']
    """
    taken = {word for name in context.classes for word in text_key(name).split()}
    words = [word for word in _WORDS if word not in taken]
    made: dict[str, Positions] = {}
    for name, positions in controlled.items():
        texts = _random_texts(name, words, context.seed)
        made[name] = [
            slot if n == 0 or slot is None else Category(next(texts), "{c}, two random words")
            for n, slot in enumerate(positions)
        ]
    return made


def _random_texts(name: str, words: list[str], seed: int) -> Iterator[str]:
    seen: set[tuple[int, int]] = set()
    number = 0
    while len(seen) < len(words) * (len(words) - 1):
        first = _randint("random-words", seed, name, number, 0, below=len(words))
        second = _randint("random-words", seed, name, number, 1, below=len(words))
        number += 1
        if first != second and (first, second) not in seen:
            seen.add((first, second))
            yield f"{name}, {words[first]} {words[second]}"


_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_LENGTH = 8


@control("random-characters")
def random_characters(controlled: Mapping[str, Positions], context: StrategyContext) -> Mapping[str, Positions]:
    """Control: the class name and eight random letters, as often as the controlled strategy has categories.

    Drawn by class, position and order. Two texts are the same with a chance of 5e-12.

    >>> lists = {"dog": [Category("dog", ""), Category("dogs", "")]}
    >>> [category.text for category in random_characters(lists, StrategyContext(("dog",), "animal"))["dog"]]
    ['dog', 'dog, tmvotpqo']
    """
    return {
        name: [
            slot if n == 0 or slot is None else Category(f"{name}, {_noise(context.seed, name, n)}", "{c}, noise")
            for n, slot in enumerate(positions)
        ]
        for name, positions in controlled.items()
    }


def _noise(seed: int, name: str, position: int) -> str:
    return "".join(
        _LETTERS[_randint("random-characters", seed, name, position, letter, below=len(_LETTERS))]
        for letter in range(_LENGTH)
    )


@control("swapped")
def swapped(controlled: Mapping[str, Positions], context: StrategyContext) -> Mapping[str, Positions]:
    """Control: every class keeps its name and takes the equivalents of one other class, all classes in a ring.

    The ring is drawn by the order. Position by position a class takes what the next class of the ring has there (the
    one after that where it has nothing), so every step offers the same texts as the controlled strategy. A position
    where only one class has a category stays empty.

    >>> lists = {name: [Category(name, ""), Category(f"{name}s", "")] for name in ("cat", "dog", "cow")}
    >>> made = swapped(lists, StrategyContext(tuple(lists), "animal", seed=0))
    >>> {name: [category.text for category in positions] for name, positions in made.items()}
    {'cat': ['cat', 'cows'], 'dog': ['dog', 'cats'], 'cow': ['cow', 'dogs']}
    """
    ring = _shuffled(list(controlled), "swapped", context.seed)
    made = {name: list(positions) for name, positions in controlled.items()}
    for n in range(1, max(map(len, controlled.values()))):
        there = [name for name in ring if n < len(controlled[name]) and controlled[name][n] is not None]
        for name, following in zip(there, [*there[1:], *there[:1]], strict=True):
            made[name][n] = None if name == following else _from(controlled[following][n], following)
    return made


def _from(category: Category | None, owner: str) -> Category | None:
    return category and Category(category.text, f"{category.provenance} of {owner}")


@control("shuffled")
def shuffled(controlled: Mapping[str, Positions], context: StrategyContext) -> Mapping[str, Positions]:
    """Control: every class keeps its name, and in each position the equivalents of all classes are dealt out anew.

    The permutation of each position is drawn by the position and the order. Unlike `swapped`, where a class gets all
    equivalents of one other class, the texts of a class then belong to many, now and then (once in a position, on
    average) to itself. Every step offers the same texts as the controlled strategy.

    >>> lists = {name: [Category(name, ""), Category(f"{name}s", "")] for name in ("cat", "dog", "cow")}
    >>> made = shuffled(lists, StrategyContext(tuple(lists), "animal", seed=1))
    >>> {name: [category.text for category in positions] for name, positions in made.items()}
    {'cat': ['cat', 'cows'], 'dog': ['dog', 'dogs'], 'cow': ['cow', 'cats']}
    """
    made = {name: list(positions) for name, positions in controlled.items()}
    for n in range(1, max(map(len, controlled.values()))):
        there = [name for name, positions in controlled.items() if n < len(positions) and positions[n] is not None]
        for name, owner in zip(there, _shuffled(there, "shuffled", context.seed, n), strict=True):
            made[name][n] = _from(controlled[owner][n], owner)
    return made


def _randint(*key: object, below: int) -> int:
    """Return a whole number from 0 to `below` - 1: the SHA-256 of the key's parts modulo `below`.

    >>> _randint("demo", 1, below=10) == _randint("demo", 1, below=10) < 10
    True
    """
    packed = "\x1f".join(map(str, key)).encode()
    return int.from_bytes(hashlib.sha256(packed).digest(), "big") % below


def _shuffled(items: Sequence[str], *key: object) -> list[str]:
    """Return the items in an order that depends on the key and on each item alone.

    Taking items away leaves the order of the others as it is.
    """
    return sorted(items, key=lambda item: hashlib.sha256("\x1f".join(map(str, (*key, item))).encode()).digest())


_WORD_LIST = """
above across after again almost along always among around aside average because before begin behind below
beneath between beyond bottom bound brief bring careful carry central certain chance chapter close common
complete curious current daily decade degree detail differ direct distant early effect either enough entire
equal even exact extra fair familiar final follow former forward front further glad gradual great honest hour
idea instead keep kind last late least left length level likely limit local loose main major many margin
market matter measure medium merely middle minute modest moment month motion near neat never next normal
notice often once only opposite order other outside overall partial past patient pause perhaps place plenty
polite present previous promise proper quarter question quick quiet quite random rapid rare rather ready
reason recent regular remain repeat rest right secret separate series several silent similar simple since
single slight sometimes soon spare special spread steady still strange strict sudden swift tender theory title
together topic total toward twice under unit until usual various vast version weekly whole within without
wonder yearly
"""

_WORDS = tuple(_WORD_LIST.split())
"""Words without a picture of their own, most of them for time, place and degree; no numbers, which may be classes."""
