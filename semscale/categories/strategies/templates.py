"""The template strategy of the founding study (arXiv 2503.12617), letter for letter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from semscale.categories.registry import Category, strategy
from semscale.errors import SemscaleError

PREFIXES = ("", "Large ", "Small ", "Medium ", "{domain} ", "Tiny ")
"""What stands before the class name, in published order; each comes with the name, then with its plural."""


def fill(class_name: str, plural: str, domain: str, plural_mark: str) -> Iterator[Category]:
    """Yield the 12 categories of a class: each prefix with the class name, then with its plural.

    Args:
        class_name: as it stands in the dataset; it is not changed.
        plural: the plural to use.
        domain: the word for what all classes are; its first letter is made a capital, as published.
        plural_mark: how provenance writes the plural, such as "{c}s".

    Raises:
        SemscaleError: when the domain word is blank.
    """
    if not domain.strip():
        raise SemscaleError(
            "the templates need a word for what all classes are",
            found=f"domain {domain!r}",
            expected="a noun such as animal, flower or vehicle",
            hint="give the dataset a domain",
        )
    shown_domain = domain.strip()
    shown_domain = shown_domain[0].upper() + shown_domain[1:]
    for prefix in PREFIXES:
        words = prefix.format(domain=shown_domain)
        yield Category(words + class_name, f"{prefix}{{c}}")
        yield Category(words + plural, f"{prefix}{plural_mark}")


@strategy("templates")
def templates(class_name: str, domain: str) -> Sequence[Category]:
    """C, Cs, Large C, Large Cs, Small, Medium, domain word, Tiny: as published, with naive plurals.

    The plural is the name plus "s" whatever the name is ("cross" gives "crosss"): so it was published.

    >>> [category.text for category in templates("cross", "shape")][6:10]
    ['Medium cross', 'Medium crosss', 'Shape cross', 'Shape crosss']
    """
    return list(fill(class_name, f"{class_name}s", domain, "{c}s"))
