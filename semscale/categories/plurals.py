"""English plurals of class names, by the library inflect."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

_LAST_WORD = re.compile(r"[^\s_]+(?=[\s_]*$)")
# Singulars that inflect mistakes for plurals of "specim-an", "agend-um" and the like.
_SINGULARS = frozenset({"abdomen", "agenda", "omen", "regimen", "specimen", "stamen"})


@cache
def _engine() -> Any:
    # Imported on first use: the import takes seconds, nearly all of them for run-time type checks, which typeguard
    # compiles into every function; they are disabled.
    import typeguard

    checked = typeguard.typechecked
    typeguard.typechecked = lambda function: function  # type: ignore[assignment]
    try:
        import inflect
    finally:
        typeguard.typechecked = checked

    engine = inflect.engine()
    engine.defnoun("golf", "golfs")  # inflect declines it like wolf
    engine.defnoun("taquito", "taquitos")
    engine.defnoun("two", "twos")  # not like potato
    return engine


def plural(name: str) -> str:
    """Return the name with its last word in the plural; a plural name is returned unchanged.

    inflect has no predicate for plurals, so a word counts as one when inflect makes "antss" of "ants" (singulars in s
    get "es": buses, irises), or when its singular has the word as plural ("geese"). Uncountable words in -is or -as
    ("tennis") thus stay unchanged too.

    >>> [plural(name) for name in ("cross", "baked_potato", "mouse", "shorts", "sheep", "digit 7")]
    ['crosses', 'baked_potatoes', 'mice', 'shorts', 'sheep', 'digit 7s']
    """
    match = _LAST_WORD.search(name)
    if match is None:
        return name
    return name[: match.start()] + _plural_word(match.group()) + name[match.end() :]


def _plural_word(word: str) -> str:
    if not any(letter.islower() for letter in word) and len(word) <= 4:
        return word + "s"  # numbers, letters and acronyms: 7s, As, SUVs; inflect would write 7S
    # In lower case, because inflect takes a capitalised word for a person's name and makes "Glasseses" of "Glasses".
    if _is_plural(word.lower()):
        return word
    if word.endswith("y") and word[0].isupper():
        # To inflect that is a person's name (Kennedys); a class is a common noun.
        lowered = str(_engine().plural_noun(word.lower()))
        return word[0] + lowered[1:]
    return str(_engine().plural_noun(word))


def _is_plural(word: str) -> bool:
    engine = _engine()
    if word.endswith("s"):
        return bool(engine.plural_noun(word) == f"{word}s")
    singular = engine.singular_noun(word)
    return bool(singular) and word not in _SINGULARS and bool(engine.plural_noun(singular) == word)
