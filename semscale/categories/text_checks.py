"""Checks of class names and category texts, before anything is encoded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from semscale.common.errors import CategoryError
from semscale.common.text import text_key


def check_classes(classes: Sequence[str], where: str) -> None:
    """Refuse fewer than two classes, blank names and names that are equal after `text_key`.

    Raises:
        CategoryError: naming the classes.
    """
    if len(classes) < 2:
        what = "a ladder needs at least two classes"
        found = f"{len(classes)}: {', '.join(map(repr, classes)) or 'none'}"
        raise CategoryError(what, where=where, found=found, expected="two or more class names")
    seen: dict[str, str] = {}
    for name in classes:
        key = text_key(name)
        if not key:
            raise CategoryError("a class name is empty", where=where, found=repr(name))
        if key in seen:
            what = "two classes have the same name"
            expected = "names that differ by more than case, underscores and spaces"
            raise CategoryError(what, where=where, found=f"{seen[key]!r} and {name!r}", expected=expected)
        seen[key] = name


def check_texts(categories: Mapping[str, Iterable[str]], where: str, *, repeats: bool = False) -> None:
    """Refuse empty texts, repeated texts of a class, and texts of two classes, compared after `text_key`.

    Args:
        categories: the texts of each class.
        where: names the ladder in the message.
        repeats: whether a class may have the same text again, as in the control `duplicates`.

    Raises:
        CategoryError: naming the text and the class or classes.

    >>> check_texts({"dog": ["dog", "dogs"], "hound": ["hound", "Dogs"]}, "demo")
    Traceback (most recent call last):
    ...
    semscale.common.errors.CategoryError: a category belongs to two classes, so it does not distinguish them
      where:    demo
      found:    'Dogs' of 'dog' and 'hound'
      expected: every category to belong to one class
      to do:    rename one of the classes or remove the text from one of them
    """
    owner: dict[str, str] = {}
    for name, texts in categories.items():
        for text in texts:
            key = text_key(text)
            if not key:
                raise CategoryError("a category is empty", where=where, found=f"{text!r} in class {name!r}")
            other = owner.setdefault(key, name)
            if other != name:
                what = "a category belongs to two classes, so it does not distinguish them"
                found, expected = f"{text!r} of {other!r} and {name!r}", "every category to belong to one class"
                hint = "rename one of the classes or remove the text from one of them"
                raise CategoryError(what, where=where, found=found, expected=expected, hint=hint)
        if not repeats:
            _check_repeats(name, texts, where)


def _check_repeats(name: str, texts: Iterable[str], where: str) -> None:
    seen: set[str] = set()
    for text in texts:
        key = text_key(text)
        if key in seen:
            what = "a class has the same category twice"
            expected = "texts that differ by more than case, underscores and spaces"
            raise CategoryError(what, where=where, found=f"{text!r} in class {name!r}", expected=expected)
        seen.add(key)
