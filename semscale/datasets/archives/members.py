"""Members of archives: names that may not be what they seem, and which members are images."""

from __future__ import annotations

import re

from semscale.datasets.source import ARCHIVE_SUFFIXES, IMAGE_SUFFIXES, Notes
from semscale.errors import SemscaleError

LINK = "a link in the archive, not followed"
SPECIAL = "neither a file nor a folder in the archive"

_IMAGES = frozenset(IMAGE_SUFFIXES)
_ODD = re.compile(r"[\\:\x00\ud800-\udfff]|\.\.|//|/\./|^\.?/|/$")
_DRIVE = re.compile(r"[A-Za-z]:")


def member_name(raw: str, archive: str) -> str:
    r"""Return a member's path with plain slashes; nothing is ever written, but a name that leads outside is refused.

    Backslashes are read as slashes, as the Windows programs that write them mean them. What is not UTF-8 becomes
    ``\xe9``.

    Raises:
        SemscaleError: the name is absolute, climbs with ``..``, names a drive, or has a NUL.

    >>> member_name("./cat//1.jpg", "x.tar"), member_name(r"dog\2.jpg", "x.zip")
    ('cat/1.jpg', 'dog/2.jpg')
    >>> member_name("cat/../../1.jpg", "x.tar")
    Traceback (most recent call last):
    semscale.errors.SemscaleError: the archive has a member whose name leads outside
      where:    x.tar
      found:    'cat/../../1.jpg'
      expected: names below the archive's own top
      to do:    such an archive is broken or an attack; make it anew from its images
    """
    if not _ODD.search(raw):
        return raw
    path = raw.replace("\\", "/")
    parts = path.split("/")
    if "\0" in raw or ".." in parts or path.startswith("/") or _DRIVE.match(path):
        raise SemscaleError(
            "the archive has a member whose name leads outside",
            where=archive,
            found=repr(raw)[:300],
            expected="names below the archive's own top",
            hint="such an archive is broken or an attack; make it anew from its images",
        )
    name = "/".join(part for part in parts if part not in ("", "."))
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


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
    ending = name[name.rfind(".") :].lower()
    if ending in _IMAGES:
        return True
    if ending in ARCHIVE_SUFFIXES:
        notes.add("archives inside are not opened", name)
    else:
        notes.add("files are no images by their names", name)
    return False
