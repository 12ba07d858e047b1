"""Opening of archives, whatever their kind, and the names of their members; nothing is ever extracted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from semscale.datasets.base import Notes, takes
from semscale.datasets.filesystem import is_missing, location, open_filesystem, plain_reason
from semscale.errors import SemscaleError
from semscale.redact import shown

LINK = "a link in the archive, not followed"
SPECIAL = "neither a file nor a folder in the archive"

_KINDS = {b"PK": "zip", b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd", b"7z": "7z"}
_UNUSUAL = re.compile(r"[\\\x00\udc80-\udcff]|(^|/)\.{0,2}(/|$)")
_HIDDEN = re.compile(r"(^|/)(\.|__MACOSX/)")


def open_file(path: str) -> BinaryIO:
    """Open a file on a disk or behind fsspec."""
    if "://" not in path:
        return open(location(path), "rb")
    fs, inner = open_filesystem(path)
    return cast(BinaryIO, fs.open(inner, "rb"))


@contextmanager
def open_archive(path: str) -> Iterator[BinaryIO]:
    """Open an archive for its listing; faults of the storage while it is open become user errors."""
    try:
        with open_file(path) as file:
            yield file
    except SemscaleError:
        raise
    except Exception as error:  # the packages behind fsspec raise nearly anything
        if "://" not in path and not isinstance(error, OSError):
            raise
        if is_missing(error):
            raise SemscaleError("the archive does not exist", where=shown(path), expected="a file") from error
        found, hint = plain_reason(error), None
        if isinstance(error, IsADirectoryError):
            hint = "folder:PATH reads folders"
        elif "range requests" in found:
            hint = "download the archive first"
        raise SemscaleError("the archive cannot be read", where=shown(path), found=found, hint=hint) from error


def archive_kind(path: str) -> str:
    """Return what an archive is by its first bytes: zip, gzip, bzip2, xz, zstd, 7z, or "" for anything else."""
    with open_archive(path) as file:
        return _KINDS.get(file.read(2), "")


def damaged(archive: str, found: str) -> SemscaleError:
    """Return the error for an archive that is cut off, or not what its own directory or headers say."""
    return SemscaleError("the archive is damaged", where=archive, found=found, hint="copy or download it again")


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
    return _HIDDEN.search(name) is not None


def picks(name: str, notes: Notes) -> bool:
    """Tell whether a member is an image; what is neither that nor hidden is noted."""
    return bool(name) and not is_hidden(name) and takes(name, notes)
