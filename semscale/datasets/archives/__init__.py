"""Images in archives: zip, tar and webdataset shards, read where they lie and never unpacked."""

from __future__ import annotations

from semscale.common.filesystem import REMOTE_READS, location, stem, without_query
from semscale.datasets.archives import tarred, zipped
from semscale.datasets.archives.members import archive_kind
from semscale.datasets.base import Notes, Options, Reader, Source


def is_archive(path: str) -> bool:
    """Tell whether a path names an archive, by its ending."""
    return without_query(path).lower().endswith((".zip", *tarred.ENDINGS))


def open_source(path: str, options: Options) -> Source:
    """Open an archive: ``<class>/...`` or ``<split>/<class>/...`` inside, or any names with a rule for the class.

    A member that cannot be used has a ``reason`` and no place. Hidden files and what is no image by its name are left
    out; a name that occurs twice is given twice.
    """
    notes, parallel = Notes(), REMOTE_READS if "://" in path else 1
    # a self-extracting zip begins with a program
    if archive_kind(path) == "zip" or without_query(path).lower().endswith(".zip"):
        reader: Reader = zipped.ZipReader(location(path), parallel)
        return Source(stem(path), reader, zipped.list_members(path, notes), notes, by_path=True, peel=True)
    reader = tarred.TarReader(location(path), 1 if tarred.compression_of(path) else parallel)
    return Source(stem(path), reader, tarred.list_members(path, notes), notes, by_path=True, peel=True)
