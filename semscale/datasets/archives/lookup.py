"""Images inside an archive of either kind, for those who need not know which: their names, and a reader."""

from __future__ import annotations

from collections.abc import Iterator

from semscale.datasets.archives import tarred, zipped
from semscale.datasets.base import Reader
from semscale.datasets.source import Entry, Notes


def is_archive(path: str) -> bool:
    """Tell whether a path names an archive, by its ending.

    >>> is_archive("s3://bucket/photos.tar.gz"), is_archive("photos/"), is_archive("labels.csv.gz")
    (True, False, False)
    """
    return path.partition("?")[0].lower().endswith((".zip", *tarred.ENDINGS))


def archive_members(path: str, notes: Notes | None = None) -> Iterator[Entry]:
    """List the images of an archive: ``file`` is the member's name, ``place`` what :func:`archive_reader` takes.

    A member that cannot be used has a ``reason`` and no place. Hidden files and what is no image by its name are left
    out; a name that occurs twice is given twice.
    """
    notes = Notes() if notes is None else notes
    return zipped.list_members(path, notes) if _is_zip(path) else tarred.list_members(path, notes)


def archive_reader(path: str) -> Reader:
    """Return the reader for places that :func:`archive_members` gave."""
    return zipped.open_reader(path) if _is_zip(path) else tarred.open_reader(path)


def _is_zip(path: str) -> bool:
    return path.partition("?")[0].lower().endswith(".zip")
