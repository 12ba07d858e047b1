"""When two written names are the same."""

from __future__ import annotations


def fold(text: str) -> str:
    """Return the text in lower case, with ``_`` as a space, and single spaces.

    >>> fold(" Hot_Dog  bun")
    'hot dog bun'
    """
    return " ".join(text.replace("_", " ").lower().split())
