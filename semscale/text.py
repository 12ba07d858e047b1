"""Normal form in which names and texts are compared."""

from __future__ import annotations


def text_key(text: str) -> str:
    """Return the form in which two texts are compared: case-folded, underscores as spaces, spaces folded.

    CLIP's tokenizer lower-cases and folds spaces itself; underscores stand for spaces in names of folders.

    >>> text_key("  Garden_Roses ")
    'garden roses'
    """
    return " ".join(text.replace("_", " ").split()).casefold()
