"""Normal forms of texts: for comparison, and for names of files."""

from __future__ import annotations

import importlib.metadata
import re


def text_key(text: str) -> str:
    """Return the form in which two texts are compared: case-folded, underscores as spaces, spaces folded.

    CLIP's tokenizer lower-cases and folds spaces itself; underscores stand for spaces in names of folders.

    >>> text_key("  Garden_Roses ")
    'garden roses'
    """
    return " ".join(text.replace("_", " ").split()).casefold()


def slug(*parts: object) -> str:
    """Join the parts of a file name with ``__``, each made of harmless characters only.

    >>> slug("digits", "ViT-B-32::laion2b", "templates", 0)
    'digits__ViT-B-32-laion2b__templates__0'
    """
    return "__".join(re.sub(r"[^A-Za-z0-9._-]+", "-", str(part)).strip("-.") or "-" for part in parts)


def package_version(package: str) -> str | None:
    """Return the version of an installed package, or None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
