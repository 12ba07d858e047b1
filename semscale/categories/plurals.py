"""Real English plurals of class names, through the library inflect."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

_LAST_WORD = re.compile(r"[^\s_]+(?=[\s_]*$)")
# Words that inflect takes for plurals of "specim-an", "agend-um" and the like.
_SINGULAR_ALL_THE_SAME = frozenset({"abdomen", "agenda", "omen", "regimen", "specimen", "stamen"})


@cache
def _engine() -> Any:
    # inflect is loaded when a plural is asked for, not with the package. Its import takes seconds, nearly all of them
    # for run-time checks that texts are strings, which typeguard compiles into every function: it goes without them.
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
    """Return the name with its last word in the plural; a name that is a plural already is returned as it is.

    Plurals come from the library inflect. It has no question "is this a plural?", so two signs are used: it
    makes "antss" of "ants" (only one more s, where singulars in s get "es": buses, irises), or it takes the
    word back to a singular and forward to the same word ("geese"). Uncountable words in -is
    or -as ("tennis") thus stay too.

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
    # In lower case, because inflect takes a capital for a person's name and makes "Glasseses" of "Glasses".
    if _is_plural(word.lower()):
        return word
    if word.endswith("y") and word[0].isupper():
        # For inflect that is a name (Kennedys); a class is a common noun at the head of a label.
        lowered = str(_engine().plural_noun(word.lower()))
        return word[0] + lowered[1:]
    return str(_engine().plural_noun(word))


def _is_plural(word: str) -> bool:
    engine = _engine()
    if word.endswith("s"):
        return bool(engine.plural_noun(word) == f"{word}s")
    back = engine.singular_noun(word)
    return bool(back) and word not in _SINGULAR_ALL_THE_SAME and bool(engine.plural_noun(back) == word)
