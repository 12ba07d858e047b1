"""Images in an archive, whatever its kind: their names, and a reader."""

from __future__ import annotations

from collections.abc import Iterator

from semscale.datasets.archives import tarred, zipped
from semscale.datasets.archives.members import archive_kind
from semscale.datasets.base import Entry, Notes, Options, Reader, Source
from semscale.datasets.filesystem import REMOTE_READS, location, stem


def is_archive(path: str) -> bool:
    """Tell whether a path names an archive, by its ending.

    >>> is_archive("s3://bucket/photos.tar.gz"), is_archive("photos/"), is_archive("labels.csv.gz")
    (True, False, False)
    """
    return path.partition("?")[0].lower().endswith((".zip", *tarred.ENDINGS))


def open_source(path: str, options: Options) -> Source:
    """Open an archive: ``<class>/...`` or ``<split>/<class>/...`` inside, or any names with a rule for the class."""
    notes = Notes()
    return Source(stem(path), archive_reader(path), archive_members(path, notes), notes, by_path=True, peel=True)


def archive_members(path: str, notes: Notes | None = None) -> Iterator[Entry]:
    """List the images of an archive: ``file`` is the member's name, ``place`` what :func:`archive_reader` takes.

    A member that cannot be used has a ``reason`` and no place. Hidden files and what is no image by its name are left
    out; a name that occurs twice is given twice.
    """
    notes = Notes() if notes is None else notes
    return zipped.list_members(path, notes) if _is_zip(path) else tarred.list_members(path, notes)


def archive_reader(path: str) -> Reader:
    """Return the reader for places that :func:`archive_members` gave."""
    parallel = REMOTE_READS if "://" in path else 1
    if _is_zip(path):
        return zipped.ZipReader(location(path), parallel)
    compressed = tarred.compression_of(path) != ""
    return tarred.TarReader(location(path), 1 if compressed else parallel)


def _is_zip(path: str) -> bool:
    # a self-extracting one begins with a program
    return archive_kind(path) == "zip" or path.partition("?")[0].lower().endswith(".zip")
