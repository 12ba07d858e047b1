"""Resolution of table rows to images: beside the table, in a folder, in an archive, or behind URLs."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from semscale.datasets.archives.lookup import archive_members, archive_reader, is_archive
from semscale.datasets.base import Reader
from semscale.datasets.folder import FolderReader, open_source
from semscale.datasets.source import IMAGE_SUFFIXES, Entry, Notes, Options
from semscale.datasets.tables.cells import INLINE
from semscale.datasets.where import REMOTE_READS, is_local, location, read_whole
from semscale.errors import SemscaleError
from semscale.redact import redact, shown

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_url(text: str) -> bool:
    r"""Tell whether a row names its image by a URL.

    >>> is_url("s3://bucket/1.jpg"), is_url("C:\\photos\\1.jpg")
    (True, False)
    """
    return _URL.match(text) is not None


def url_name(url: str) -> str:
    """Return a URL's name in tables: a query may carry keys, and is replaced by a short hash.

    Raises:
        ValueError: it is no valid URL.

    >>> url_name("https://ann:secret@host/1.jpg?key=abc")
    'https://***@host/1.jpg?ad29e345'
    """
    urlsplit(url)
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
    """Reader of images by URL, or by path below the location of a table's images.

    Attributes:
        images: reads paths.
        parallel: reads at once that pay.
    """

    images: Reader
    parallel: int = 1

    @classmethod
    def of(cls, images: Reader, by_url: bool) -> NamedReader:
        """Return a reader with as many parallel reads as its images need."""
        return cls(images, REMOTE_READS if by_url else getattr(images, "parallel", 1))

    def read(self, place: str) -> bytes:
        """Return the bytes of an image. Raises OSError."""
        if is_url(place):
            if "::" in place:
                raise OSError("chained URLs are not followed")
            return read_whole(place)
        return self.images.read(place)


class RemoteFolder:
    """Images in a remote folder; whether one exists shows when it is read, because asking would take as long.

    Attributes:
        where: the folder or archive, for messages.
        reader: reads what :meth:`find` found.
    """

    def __init__(self, where: str, reader: Reader) -> None:
        self.where, self.reader = where, reader
        self._named: set[str] = set()
        self._suffix = ""

    def find(self, path: str) -> Entry | None:
        """Return the image that a row names, with a reason if it cannot be used; None when there is none."""
        return Entry(path)

    def unnamed(self) -> Iterator[str]:
        """Yield the images that no call of :meth:`find` returned, where they can be listed."""
        return iter(())

    def _first(self, path: str) -> Entry | None:
        """Return the image at a path, or at a path plus an image suffix, as the identifiers of Kaggle mean it."""
        for suffix in ("", self._suffix, *IMAGE_SUFFIXES):
            entry = self._lookup(path + suffix)
            if entry is not None:
                self._suffix = suffix or self._suffix
                self._named.add(entry.file)
                return entry
        return None

    def _lookup(self, path: str) -> Entry | None:
        return None


class LocalFolder(RemoteFolder):
    """Images in a local folder.

    Args:
        root: the folder, absolute.
        whole: all of the folder belongs to the table; otherwise only those of its folders that rows name.
    """

    def __init__(self, root: str, whole: bool) -> None:
        super().__init__(root, FolderReader(root))
        self._whole = whole

    def find(self, path: str) -> Entry | None:
        return self._first(path.removeprefix(self.where + "/"))

    def unnamed(self) -> Iterator[str]:
        return (file for file in self._files() if file not in self._named)

    def _lookup(self, path: str) -> Entry | None:
        found = os.path.isfile(os.path.join(self.where, path))
        return Entry(posixpath.normpath(path)) if found else None

    def _files(self) -> Iterator[str]:
        if self._whole:
            yield from _images_below(self.where)
            return
        tops = {file.partition("/")[0] if "/" in file else "" for file in self._named}
        for top in sorted(tops - {"..", "/"}):
            if top:
                yield from (f"{top}/{file}" for file in _images_below(os.path.join(self.where, top)))
            else:
                names = sorted(name for name in os.listdir(self.where) if not name.startswith("."))
                yield from (name for name in names if name.lower().endswith(IMAGE_SUFFIXES))


class Archive(RemoteFolder):
    """Images in an archive, whose members are listed at the first look-up."""

    def __init__(self, path: str) -> None:
        super().__init__(shown(path), archive_reader(path))
        self._path = path
        self._members: dict[str, Entry] | None = None
        self._top = ""

    def find(self, path: str) -> Entry | None:
        """Return the member of this name, also without the archive's only top folder."""
        self._list()
        path = posixpath.normpath(path)
        return self._first(path) or (self._first(self._top + path) if self._top else None)

    def unnamed(self) -> Iterator[str]:
        return (name for name in self._list() if name not in self._named)

    def _lookup(self, path: str) -> Entry | None:
        return self._list().get(path)

    def _list(self) -> dict[str, Entry]:
        if self._members is None:
            self._members = {}
            for entry in archive_members(self._path):
                self._members.setdefault(entry.file, entry)
            tops = {name.partition("/")[0] if "/" in name else "" for name in self._members}
            self._top = f"{tops.pop()}/" if len(tops) == 1 and "" not in tops else ""
        return self._members


def open_images(table: str, images: str | None) -> RemoteFolder:
    """Return the location of a table's images: the given folder or archive, or the folder of the table.

    Raises:
        SemscaleError: the folder or archive does not exist.
    """
    if images is not None and is_archive(images):
        return Archive(location(images))
    beside = table.partition("?")[0].rpartition("/")[0] if "://" in table else os.path.dirname(table) or "."
    folder = beside if images is None else images
    if not is_local(folder):
        return RemoteFolder(shown(folder), FolderReader(folder, parallel=REMOTE_READS))
    root = location(folder)
    if not os.path.isdir(root):
        raise SemscaleError(
            "the location of the table's images does not exist",
            where=root,
            expected="a folder, or an archive (.zip, .tar, .tar.gz, ...)",
            hint="images: is a path as the command line takes it, not relative to the table",
        )
    return LocalFolder(root, whole=images is not None)


def _images_below(root: str) -> Iterator[str]:
    return (entry.file for entry in open_source(root, Options()).entries)


class RowResolver:
    """Turns the rows of an annotation table into entries, one by one.

    Args:
        where: the table, for messages.
        word: what its rows are called: "line" or "row".
        images: location of the images that rows name.
        notes: gets rows without a class, and at the end images without a row.
        labelled: rows have a class; otherwise a rule finds it in the path.

    Attributes:
        file: name of the file whose rows come now.
    """

    def __init__(self, where: str, word: str, images: RemoteFolder, notes: Notes, labelled: bool) -> None:
        self._where, self._word, self._images, self._notes, self._labelled = where, word, images, notes, labelled
        self._table = self.file = where.rstrip("/").rpartition("/")[2]
        self._missing: str | None = None
        self._any_found = False

    def resolve(self, number: int, image: str, label: str | None) -> Entry | None:
        """Return the entry of a row that names its image by path or URL; None for a row without a class."""
        row = f"{self._word} {number} of {self.file}"
        unnamed = f"{self.file} {self._word} {number}"
        if not image:
            return Entry(unnamed, reason=f"{row}: names no image")
        if image.startswith(INLINE):
            return Entry(unnamed, reason=f"{row}: has the image as text; store images as bytes in Parquet")
        if is_url(image):
            try:
                name = url_name(image)
            except ValueError as error:
                return Entry(unnamed, reason=f"{row}: no URL: {error}")
            if "::" in image:
                return Entry(name, reason=f"{row}: chained URLs are not followed")
            return self.entry(number, name, image, label)
        path = clean_path(image)
        found = self._images.find(path)
        if found is None:
            self._missing = self._missing or f"{path} ({row})"
            return Entry(path, reason=f"{row}: no such image")
        if found.reason is not None:
            self._any_found = True
            return found._replace(reason=f"{row}: {found.reason}")
        return self.entry(number, found.file, found.place, label)

    def entry(self, number: int, file: str, place: str, label: str | None) -> Entry | None:
        """Return the entry of a row whose image exists; None for a row without a class."""
        self._any_found = True
        if label is None and self._labelled:
            self._notes.add(f"rows of {self.file} have no class and are left out", f"{self._word} {number}")
            return None
        return Entry(file, "" if place == file else place, label)

    def finish(self) -> None:
        """Note the images that no row named.

        Raises:
            SemscaleError: rows name images, and none of them exists.
        """
        if self._missing is not None and not self._any_found:
            raise SemscaleError(
                "no image that the table names is there",
                where=self._where,
                found=f"no {self._missing}",
                expected=f"images in {self._images.where}",
                hint="set images: to the folder or archive that the paths of the table begin in",
            )
        for file in self._images.unnamed():
            self._notes.add(f"images have no {self._word} in {self._table} and are left out", file)
