"""Loader of archives: images in zips and tars (webdataset shards beside them), never extracted."""

from __future__ import annotations

from semscale.common.filesystem import REMOTE_READS, absolute_path, stem, without_query
from semscale.datasets.archives import tarred, zipped
from semscale.datasets.archives.members import archive_kind
from semscale.datasets.dataset import DatasetListing, DatasetOptions, ListingWarnings, Reader


def is_archive(path: str) -> bool:
    """Return whether a path names an archive, by its ending."""
    return without_query(path).lower().endswith((".zip", *tarred.ENDINGS))


def open_listing(path: str, options: DatasetOptions) -> DatasetListing:
    """Open an archive: ``<class>/...`` or ``<split>/<class>/...`` inside, or any names with a rule for the class.

    A member that cannot be used has a ``reason`` and no location. Hidden files and files without an image's ending are
    left out; a name that occurs twice is listed twice.
    """
    warnings, parallel = ListingWarnings(), REMOTE_READS if "://" in path else 1
    # a self-extracting zip begins with a program
    is_zip = archive_kind(path) == "zip" or without_query(path).lower().endswith(".zip")
    if is_zip:
        reader: Reader = zipped.ZipReader(absolute_path(path), parallel)
    else:
        reader = tarred.TarReader(absolute_path(path), 1 if tarred.compression_of(path) else parallel)
    entries = (zipped if is_zip else tarred).list_members(path, warnings)
    return DatasetListing(stem(path), reader, entries, warnings, class_from_folder=True, strip_common_prefix=True)
