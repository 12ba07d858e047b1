"""Member names of archives: labels in tables, and which members are images; nothing is ever extracted."""

from __future__ import annotations

import re

from semscale.datasets.source import ARCHIVE_SUFFIXES, IMAGE_SUFFIXES, Notes

LINK = "a link in the archive, not followed"
SPECIAL = "neither a file nor a folder in the archive"

_IMAGES = frozenset(IMAGE_SUFFIXES)
_UNUSUAL = re.compile(r"[\\\x00\udc80-\udcff]|(^|/)\.{0,2}(/|$)")


def member_name(raw: str) -> str:
    r"""Return a member's name as a label: plain slashes, no ``.`` or ``..``, what is not UTF-8 as ``\xe9``.

    >>> member_name("./cat//1.jpg"), member_name(r"..\dog\2.jpg")
    ('cat/1.jpg', 'dog/2.jpg')
    """
    if not _UNUSUAL.search(raw):
        return raw
    parts = [part for part in raw.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return "/".join(parts).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\0", r"\x00")


def is_hidden(name: str) -> bool:
    """Tell whether a member is a hidden file or what macOS adds to archives.

    >>> is_hidden("cat/._1.jpg"), is_hidden("__MACOSX/cat/1.jpg"), is_hidden("cat/1.jpg")
    (True, True, False)
    """
    return name.startswith((".", "__MACOSX/")) or "/." in name or "/__MACOSX/" in name


def is_image(name: str) -> bool:
    """Tell whether a name is that of an image."""
    return name[name.rfind(".") :].lower() in _IMAGES


def picks(name: str, notes: Notes) -> bool:
    """Tell whether a member is an image; an archive inside, or anything else that is not hidden, is noted."""
    if not name or is_hidden(name):
        return False
    if is_image(name):
        return True
    inside = name[name.rfind(".") :].lower() in ARCHIVE_SUFFIXES
    notes.add("archives inside are not opened" if inside else "files are no images by their names", name)
    return False
