"""Images inside an archive, whatever its kind: their names, and a reader that fetches them by their places."""

from __future__ import annotations

from collections.abc import Iterator

from semscale.datasets.archives import tarred, zipped
from semscale.datasets.base import Reader
from semscale.datasets.source import Entry, Notes

_ZIP = (".zip",)
_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


def is_archive(path: str) -> bool:
    """Tell whether a path names an archive that can be read, by its ending.

    >>> is_archive("s3://bucket/photos.tar.gz"), is_archive("photos/"), is_archive("labels.csv.gz")
    (True, False, False)
    """
    return path.partition("?")[0].lower().endswith((*_ZIP, *_TAR))


def archive_members(path: str, notes: Notes | None = None) -> Iterator[Entry]:
    """List the images of an archive: ``file`` is the member's name, ``place`` what :func:`archive_reader` takes.

    A member that cannot be used has a ``reason`` and no place; hidden files and what is no image by its name are left
    out. Names are given once per member, so that a repeated one comes again.

    Raises:
        SemscaleError: the archive is missing, damaged, cut off, or has a member that it should not have.
    """
    notes = Notes() if notes is None else notes
    return zipped.list_members(path, notes) if _is_zip(path) else tarred.list_members(path, notes)


def archive_reader(path: str) -> Reader:
    """Return the reader for places that :func:`archive_members` gave.

    Raises:
        SemscaleError: the archive is missing.
    """
    return zipped.open_reader(path) if _is_zip(path) else tarred.open_reader(path)


def _is_zip(path: str) -> bool:
    return path.partition("?")[0].lower().endswith(_ZIP)
