"""Where the images lie that a table names: beside it, in a folder, in an archive, or behind URLs."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

import numpy as np

from semscale.datasets.archives.lookup import archive_members, archive_reader, is_archive
from semscale.datasets.base import Reader
from semscale.datasets.folder import FolderReader, open_source
from semscale.datasets.samples import Spool
from semscale.datasets.source import IMAGE_SUFFIXES, Entry, Notes, Options
from semscale.datasets.where import is_local, location, read_whole
from semscale.errors import SemscaleError
from semscale.redact import redact, shown

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_BATCH = 65_536


def is_url(text: str) -> bool:
    r"""Tell whether a row names its image by a URL.

    >>> is_url("s3://bucket/1.jpg"), is_url("C:\\photos\\1.jpg")
    (True, False)
    """
    return _URL.match(text) is not None


def url_name(url: str) -> str:
    """Return a URL's name in tables: a query may carry keys, and stands there as a short hash.

    Raises:
        ValueError: it is no URL after all.

    >>> url_name("https://ann:secret@host/1.jpg?key=abc")
    'https://***@host/1.jpg?ad29e345'
    """
    urlsplit(url)  # which raises for what is no URL
    base, mark, query = url.partition("?")
    return redact(base) + (mark and f"?{hashlib.sha256(query.encode()).hexdigest()[:8]}")


def clean_path(text: str) -> str:
    r"""Return a path as it is compared: slashes for backslashes, and no leading ``./``.

    >>> clean_path(".\\train\\1.jpg"), clean_path("././a/1.jpg")
    ('train/1.jpg', 'a/1.jpg')
    """
    return re.sub(r"^(\./+)+", "", text.replace("\\", "/"))


class Images(Protocol):
    """The place where a table's images lie.

    Attributes:
        place: the folder or archive, for messages.
        reader: reads what :meth:`find` found.
    """

    place: str
    reader: Reader

    def find(self, path: str) -> Entry | None:
        """Return the image that a row names, with a reason if it cannot be used; None when there is none."""
        ...

    def unnamed(self) -> Iterator[str]:
        """Give the images that no call of :meth:`find` named, as far as they are looked for."""
        ...


@dataclass(frozen=True)
class NamedReader:
    """Reads images by what their rows say: URLs from wherever they lead, all else from the place of the images.

    Attributes:
        images: reads paths.
        parallel: reads at once that pay.
    """

    images: Reader
    parallel: int = 1

    def read(self, place: str) -> bytes:
        """Return the bytes of an image. Raises OSError."""
        if is_url(place):
            if "::" in place:
                raise OSError("chained URLs are not followed")
            return read_whole(place)
        return self.images.read(place)


def open_images(table: str, images: str | None) -> Images:
    """Return the place of a table's images: a folder or archive, or else the folder of the table.

    Raises:
        SemscaleError: the folder or archive is missing.
    """
    if images is not None and is_archive(images):
        archive = location(images)
        return ArchiveImages(shown(images), archive_reader(archive), archive)
    folder = images if images is not None else _folder_of(table)
    if not is_local(folder):
        return RemoteImages(shown(folder), FolderReader(folder, parallel=16))
    root = location(folder)
    if not os.path.isdir(root):
        raise SemscaleError(
            "the place of the table's images does not exist",
            where=root,
            expected="a folder, or an archive (.zip, .tar, .tar.gz, ...)",
            hint="images: is a path as the command line takes it, not relative to the table",
        )
    return FolderImages(root, FolderReader(root), whole=images is not None)


def _folder_of(table: str) -> str:
    return table.partition("?")[0].rpartition("/")[0] if "://" in table else os.path.dirname(table) or "."


@dataclass
class RemoteImages:
    """Images in a folder elsewhere; whether they are there shows when they are read, for asking would take as long."""

    place: str
    reader: Reader

    def find(self, path: str) -> Entry | None:
        """Return the image, unseen."""
        return Entry(path)

    def unnamed(self) -> Iterator[str]:
        """Give nothing: nobody walks through remote places for a note."""
        return iter(())


@dataclass
class FolderImages:
    """Images in a local folder; of the names that rows give, 8 bytes each are kept.

    Attributes:
        place: the folder, absolute.
        reader: reads below it.
        whole: all of the folder belongs to the table; otherwise only those of its folders that rows name.
    """

    place: str
    reader: Reader
    whole: bool
    _named: array[int] = field(default_factory=lambda: array("q"))
    _tops: set[str] = field(default_factory=set)
    _suffix: str = ""

    def find(self, path: str) -> Entry | None:
        """Return the image at a path, or at the path with the ending of an image, as the keys of Kaggle mean it."""
        path = path.removeprefix(self.place + "/")
        for suffix in ("", self._suffix, *IMAGE_SUFFIXES):
            if os.path.isfile(os.path.join(self.place, path + suffix)):
                self._suffix = suffix or self._suffix
                file = posixpath.normpath(path + suffix)
                self._named.append(hash(file))
                top, slash, _ = file.partition("/")
                self._tops.add(top if slash else "")
                return Entry(file)
        return None

    def unnamed(self) -> Iterator[str]:
        """Give the images that no row names."""
        named = np.sort(np.frombuffer(self._named, dtype=np.int64))
        batch: list[str] = []
        for file in self._walk():
            batch.append(file)
            if len(batch) == _BATCH:
                yield from _absent(batch, named)
                batch.clear()
        yield from _absent(batch, named)

    def _walk(self) -> Iterator[str]:
        if self.whole:
            yield from _images_below(self.place)
            return
        for top in sorted(self._tops - {"..", "/"}):
            if top:
                yield from (f"{top}/{file}" for file in _images_below(os.path.join(self.place, top)))
            else:
                with os.scandir(self.place) as found:
                    names = sorted(one.name for one in found if one.is_file() and not one.name.startswith("."))
                yield from (name for name in names if name.lower().endswith(IMAGE_SUFFIXES))


def _images_below(root: str) -> Iterator[str]:
    return (entry.file for entry in open_source(root, Options()).entries)


def _absent(files: list[str], named: np.ndarray) -> Iterator[str]:
    hashes = np.array([hash(file) for file in files], dtype=np.int64)
    there = np.isin(hashes, named)
    return (file for file, known in zip(files, there, strict=True) if not known)


@dataclass
class ArchiveImages:
    """Images in an archive; its names lie in mapped columns, and 17 bytes for each in memory.

    Attributes:
        place: the archive, for messages.
        reader: reads its members.
        path: where the archive lies.
    """

    place: str
    reader: Reader
    path: str
    _index: _Index | None = None

    def find(self, path: str) -> Entry | None:
        """Return the member of this name, also without the archive's one top folder, or without its ending."""
        self._index = self._index or _Index(self.path)
        return self._index.find(posixpath.normpath(path))

    def unnamed(self) -> Iterator[str]:
        """Give the images of the archive that no row names."""
        self._index = self._index or _Index(self.path)
        return self._index.unnamed()


class _Index:
    """The members of an archive by their names."""

    def __init__(self, path: str) -> None:
        spool, self._refused, tops = Spool(), {}, set()
        hashes = array("q")
        for entry in archive_members(path, Notes()):
            if entry.reason is not None:
                self._refused[entry.file] = entry
            tops.add(entry.file.partition("/")[0] if "/" in entry.file else "")
            spool.add(entry.file, entry.place)
            hashes.append(hash(entry.file))
        self._table = spool.table()
        found = np.frombuffer(hashes, dtype=np.int64)
        self._order = np.argsort(found, kind="stable")
        self._sorted = found[self._order]
        self._named = np.zeros(len(found), dtype=np.bool_)
        self._top = f"{tops.pop()}/" if len(tops) == 1 and "" not in tops else ""
        self._suffix = ""

    def find(self, path: str) -> Entry | None:
        for prefix in dict.fromkeys(("", self._top)):
            for suffix in ("", self._suffix, *IMAGE_SUFFIXES):
                entry = self._member(prefix + path + suffix)
                if entry is not None:
                    self._suffix = suffix or self._suffix
                    return entry
        return None

    def unnamed(self) -> Iterator[str]:
        for row in np.flatnonzero(~self._named).tolist():
            yield self._table.column("file")[row].as_py()

    def _member(self, name: str) -> Entry | None:
        wanted, found = hash(name), None
        at = int(np.searchsorted(self._sorted, wanted))
        while at < len(self._sorted) and self._sorted[at] == wanted:
            row = int(self._order[at])
            if self._table.column("file")[row].as_py() == name:
                self._named[row] = True
                found = found or Entry(name, self._table.column("place")[row].as_py())
            at += 1
        return found and self._refused.get(name, found)
