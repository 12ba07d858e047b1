"""Control strategies: as many categories per class as another strategy, but another meaning.

Random numbers are hashes of class, position and order: independent, and the same in every version of every library.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from semscale.categories.strategy_registry import Category, CategoryList, CategoryLists, StrategyContext, control
from semscale.common.text import text_key


@control("duplicates", repeats=True)
def duplicates(controlled: CategoryLists, context: StrategyContext) -> CategoryLists:
    """Control: the class name as often as the controlled strategy has categories; accuracy must not change at all.

    >>> lists = {"dog": [Category("dog", ""), Category("dogs", ""), None]}
    >>> duplicated = duplicates(lists, StrategyContext(("dog",), "animal"))["dog"]
    >>> [category and category.text for category in duplicated]
    ['dog', 'dog', None]
    """
    return {
        name: [
            None if category is None else categories[0] if position == 0 else _duplicate(categories[0])
            for position, category in enumerate(categories)
        ]
        for name, categories in controlled.items()
    }


def _duplicate(first: Category | None) -> Category | None:
    return first and Category(first.text, "the first category again")


@control("random-words")
def random_words(controlled: CategoryLists, context: StrategyContext) -> CategoryLists:
    """Control: the class name and two random words, as often as the controlled strategy has categories.

    Drawn by class, position and order, so that another order has other words and a longer ladder keeps its texts. Words
    of the class names are left out. (Roth et al. 2023 found random words to be as accurate as descriptors.)

    >>> lists = {"dog": [Category("dog", ""), Category("dogs", "")]}
    >>> [category.text for category in random_words(lists, StrategyContext(("dog",), "animal"))["dog"]]
    ['dog', 'dog, great curious']
    """
    taken = {word for name in context.classes for word in text_key(name).split()}
    words = [word for word in _WORDS if word not in taken]
    lists: dict[str, CategoryList] = {}
    for name, categories in controlled.items():
        texts = _random_texts(name, words, context.seed)
        lists[name] = [
            category if position == 0 or category is None else Category(next(texts), "{c}, two random words")
            for position, category in enumerate(categories)
        ]
    return lists


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
def random_characters(controlled: CategoryLists, context: StrategyContext) -> CategoryLists:
    """Control: the class name and eight random letters, as often as the controlled strategy has categories.

    Drawn by class, position and order. Two texts are equal with a probability of 5e-12.

    >>> lists = {"dog": [Category("dog", ""), Category("dogs", "")]}
    >>> [category.text for category in random_characters(lists, StrategyContext(("dog",), "animal"))["dog"]]
    ['dog', 'dog, tmvotpqo']
    """
    return {
        name: [
            category if position == 0 or category is None else _with_noise(name, position, context.seed)
            for position, category in enumerate(categories)
        ]
        for name, categories in controlled.items()
    }


def _with_noise(name: str, position: int, seed: int) -> Category:
    key = "random-characters", seed, name, position
    letters = "".join(_LETTERS[_randint(*key, index, below=len(_LETTERS))] for index in range(_LENGTH))
    return Category(f"{name}, {letters}", "{c}, noise")


@control("swapped")
def swapped(controlled: CategoryLists, context: StrategyContext) -> CategoryLists:
    """Control: every class keeps its name and takes the equivalents of one other class, all classes in a ring.

    The ring is drawn by the order. At each position a class takes the category of the next class of the ring (that has
    one), so every step has the same texts as the controlled strategy. A position where only one class has a category is
    left empty.

    >>> lists = {name: [Category(name, ""), Category(f"{name}s", "")] for name in ("cat", "dog", "cow")}
    >>> exchanged = swapped(lists, StrategyContext(tuple(lists), "animal", seed=0))
    >>> {name: [category.text for category in categories] for name, categories in exchanged.items()}
    {'cat': ['cat', 'cows'], 'dog': ['dog', 'cats'], 'cow': ['cow', 'dogs']}
    """
    ring = _shuffled(list(controlled), "swapped", context.seed)
    lists = {name: list(categories) for name, categories in controlled.items()}
    for position in range(1, max(map(len, controlled.values()))):
        present = _classes_with_category(ring, controlled, position)
        for name, donor in zip(present, [*present[1:], *present[:1]], strict=True):
            lists[name][position] = None if name == donor else _donated(controlled[donor][position], donor)
    return lists


def _classes_with_category(names: Sequence[str], lists: CategoryLists, position: int) -> list[str]:
    return [name for name in names if position < len(lists[name]) and lists[name][position] is not None]


def _donated(category: Category | None, donor: str) -> Category | None:
    return category and Category(category.text, f"{category.provenance} of {donor}")


@control("shuffled")
def shuffled(controlled: CategoryLists, context: StrategyContext) -> CategoryLists:
    """Control: every class keeps its name, and in each position the equivalents of all classes are permuted.

    The permutation of each position is drawn by the position and the order. Unlike in `swapped`, where a class gets all
    equivalents of one other class, the texts of a class then belong to many, sometimes (once in a position, on average)
    to itself. Every step has the same texts as the controlled strategy.

    >>> lists = {name: [Category(name, ""), Category(f"{name}s", "")] for name in ("cat", "dog", "cow")}
    >>> exchanged = shuffled(lists, StrategyContext(tuple(lists), "animal", seed=1))
    >>> {name: [category.text for category in categories] for name, categories in exchanged.items()}
    {'cat': ['cat', 'cows'], 'dog': ['dog', 'dogs'], 'cow': ['cow', 'cats']}
    """
    lists = {name: list(categories) for name, categories in controlled.items()}
    for position in range(1, max(map(len, controlled.values()))):
        present = _classes_with_category(list(controlled), controlled, position)
        for name, donor in zip(present, _shuffled(present, "shuffled", context.seed, position), strict=True):
            lists[name][position] = _donated(controlled[donor][position], donor)
    return lists


def _randint(*key: object, below: int) -> int:
    """Return a pseudo-random integer from 0 to `below` - 1: the SHA-256 of the key modulo `below`.

    >>> _randint("demo", 1, below=10) == _randint("demo", 1, below=10) < 10
    True
    """
    packed = "\x1f".join(map(str, key)).encode()
    return int.from_bytes(hashlib.sha256(packed).digest(), "big") % below


def _shuffled(items: Sequence[str], *key: object) -> list[str]:
    """Return the items in a pseudo-random sequence, sorted by the SHA-256 of key and item.

    Removing items does not change the sequence of the others.
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
"""Words that depict nothing, most of them of time, place and degree; no numbers, which may be classes."""
