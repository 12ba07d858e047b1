"""Locations of a table's images: a folder, an archive, or URLs."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from semscale.datasets.archives.open_archive import archive_members, archive_reader, is_archive
from semscale.datasets.base import Reader
from semscale.datasets.filesystem import REMOTE_READS, is_local, location, read_whole
from semscale.datasets.folder import FolderReader, open_source
from semscale.datasets.source import IMAGE_SUFFIXES, Entry, Options
from semscale.errors import SemscaleError
from semscale.redact import redact, shown


def is_url(text: str) -> bool:
    r"""Tell whether a row names its image by a URL.

    >>> is_url("s3://bucket/1.jpg"), is_url("C:\\photos\\1.jpg")
    (True, False)
    """
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) is not None


def url_name(url: str) -> str:
    """Return a URL's name in tables: a query may carry keys, and is replaced by a short hash.

    >>> url_name("https://ann:secret@host/1.jpg?key=abc")
    'https://***@host/1.jpg?ad29e345'
    """
    base, mark, query = url.partition("?")
    return redact(base) + (mark and f"?{hashlib.sha256(query.encode()).hexdigest()[:8]}")


def clean_path(text: str) -> str:
    r"""Return a path with slashes for backslashes, and without leading ``./``.

    >>> clean_path(".\\train\\1.jpg"), clean_path("././a/1.jpg")
    ('train/1.jpg', 'a/1.jpg')
    """
    return re.sub(r"^(\./+)+", "", text.replace("\\", "/"))


@dataclass(frozen=True)
class NamedReader:
    """Reader of images by URL, or by path below the location of a table's images; `parallel` reads at once pay."""

    images: Reader
    parallel: int = 1

    @classmethod
    def of(cls, images: Reader, names: Iterable[str]) -> NamedReader:
        """Return a reader for a table whose first rows have these names."""
        return cls(images, REMOTE_READS if any(map(is_url, names)) else getattr(images, "parallel", 1))

    def read(self, place: str) -> bytes:
        """Return the bytes of an image. Raises OSError."""
        if not is_url(place):
            return self.images.read(place)
        if "::" in place:
            raise OSError("chained URLs are not followed")
        return read_whole(place)


@dataclass(frozen=True)
class ImageLocation:
    """Folder or archive with the images of a table."""

    where: str
    reader: Reader
    lookup: Callable[[str], Entry | None] = Entry
    """The image at a path, with a reason if it cannot be used; of a remote folder any path, since asking takes long."""
    listing: Callable[[set[str]], Iterable[str]] = lambda named: ()
    """The images of the location that can be listed, given those that rows name."""
    tops: tuple[str, ...] = ("",)
    """What a path may lack in front: the only top folder of an archive."""


def open_images(table: str, images: str | None) -> ImageLocation:
    """Return the location of a table's images: the given folder or archive, or the folder of the table."""
    if images is not None and is_archive(images):
        return _open_archive(location(images))
    beside = os.path.dirname(table) if is_local(table) else table.partition("?")[0].rpartition("/")[0]
    folder = beside if images is None else images
    if not is_local(folder):
        return ImageLocation(shown(folder), FolderReader(folder, parallel=REMOTE_READS))
    root = location(folder)
    if not os.path.isdir(root):
        raise SemscaleError(
            "the location of the table's images does not exist",
            where=root,
            expected="a folder, or an archive (.zip, .tar, .tar.gz, ...)",
            hint="images: is a path as the command line takes it, not relative to the table",
        )

    def lookup(path: str) -> Entry | None:
        return Entry(path) if os.path.isfile(os.path.join(root, path)) else None

    def listing(named: set[str]) -> Iterable[str]:
        if images is not None:
            return (entry.file for entry in open_source(root, Options()).entries)
        folders = sorted({posixpath.dirname(file) for file in named})
        files = (posixpath.join(below, name) for below in folders for name in sorted(os.listdir(f"{root}/{below}")))
        return (file for file in files if file.lower().endswith(IMAGE_SUFFIXES) and not file.startswith("."))

    return ImageLocation(root, FolderReader(root), lookup, listing)


def _open_archive(path: str) -> ImageLocation:
    members: dict[str, Entry] = {}
    for entry in archive_members(path):
        members.setdefault(entry.file, entry)
    tops = {name.partition("/")[0] if "/" in name else "" for name in members}
    top = f"{tops.pop()}/" if len(tops) == 1 and "" not in tops else ""
    return ImageLocation(shown(path), archive_reader(path), members.get, lambda _: members, ("", top) if top else ("",))
