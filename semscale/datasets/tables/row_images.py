"""Resolution of table rows to images: in a folder, in an archive, or behind URLs."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import stat
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from semscale.common.errors import DatasetError
from semscale.common.filesystem import (
    MAX_FILE_BYTES,
    REMOTE_READS,
    TOO_LARGE,
    is_hidden,
    is_local,
    location,
    may_pass,
    read_whole,
    without_query,
)
from semscale.common.redact import redact, shown
from semscale.datasets import archives
from semscale.datasets.base import IMAGE_SUFFIXES, Entry, Notes, Options, Reader
from semscale.datasets.folder import FolderReader, open_source
from semscale.datasets.tables.text_records import INLINE


def is_url(text: str) -> bool:
    r"""Tell whether a row names its image by a URL."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) is not None


def url_name(url: str) -> str:
    """Return a URL's name in tables: a query may carry keys, and is replaced by a short hash."""
    base, mark, query = url.partition("?")
    return redact(base) + (mark and f"?{hashlib.sha256(query.encode()).hexdigest()[:8]}")


def clean_path(text: str) -> str:
    r"""Return a path with slashes for backslashes, and without leading ``./``."""
    return re.sub(r"^(\./+)+", "", text.replace("\\", "/"))


@dataclass
class NamedReader:
    """Reader of images by URL, or by path below the location of a table's images; `parallel` reads at once pay."""

    images: Reader
    parallel: int

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


def image_bytes(cell: Any, read: Callable[[str], bytes]) -> bytes:
    """Return the image in a cell: its bytes, or what `read` returns for its path. Raises OSError."""
    content, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
    if content is None and path:
        return read(path)
    if not isinstance(content, bytes):
        raise OSError("the row has no image")
    if len(content) > MAX_FILE_BYTES:
        raise OSError(TOO_LARGE)
    return content


def _open_images(table: str, images: str | None) -> ImageLocation:
    """Return the location of a table's images: the given folder or archive, or the folder of the table."""
    if images is not None and archives.is_archive(images):
        return _open_archive(location(images))
    beside = os.path.dirname(table) if is_local(table) else without_query(table).rpartition("/")[0]
    folder = beside if images is None else images
    if not is_local(folder):
        return ImageLocation(shown(folder), FolderReader(folder, parallel=REMOTE_READS))
    root = location(folder)
    if not os.path.isdir(root):
        what, expected = "the location of the table's images does not exist", "a folder or archive (.zip, .tar, ...)"
        hint = "images: is a path as the command line takes it, not relative to the table"
        raise DatasetError(what, where=root, expected=expected, hint=hint)

    def lookup(path: str) -> Entry | None:
        try:
            return Entry(path) if stat.S_ISREG(os.stat(os.path.join(root, path)).st_mode) else None
        except (OSError, ValueError) as error:
            if not may_pass(error):
                return None
            what, hint = "an image of the table cannot be looked up at the moment", "give the same command again"
            raise DatasetError(what, where=path, found=str(error), hint=hint) from error

    def listing(named: set[str]) -> Iterable[str]:
        if images is not None:
            return (entry.file for entry in open_source(root, Options()).entries)
        folders = sorted({posixpath.dirname(file) for file in named})
        files = (posixpath.join(below, name) for below in folders for name in sorted(os.listdir(f"{root}/{below}")))
        return (file for file in files if file.lower().endswith(IMAGE_SUFFIXES) and not is_hidden(file))

    return ImageLocation(root, FolderReader(root), lookup, listing)


def _open_archive(path: str) -> ImageLocation:
    members: dict[str, Entry] = {}
    source = archives.open_source(path, Options())
    for entry in source.entries:
        members.setdefault(entry.file, entry)
    tops = {name.partition("/")[0] if "/" in name else "" for name in members}
    top = f"{tops.pop()}/" if len(tops) == 1 and "" not in tops else ""  # which a path may lack in front

    def lookup(path: str) -> Entry | None:
        return members.get(path) or members.get(top + path)

    return ImageLocation(shown(path), source.reader, lookup, lambda named: members)


class RowResolver:
    """Turns the rows of the annotation table at `path` into entries; `word` is what a row is called, "line" or "row".

    Its images are in the folder or archive `images`, or else beside it. Of a `labelled` table each row needs a class.
    """

    def __init__(self, path: str, images: str | None, notes: Notes, word: str, *, labelled: bool) -> None:
        where = shown(path)
        self._where, self._word, self._notes, self._labelled = where, word, notes, labelled
        self._images = _open_images(path, images)
        self._table = where.rstrip("/").rpartition("/")[2]
        self.file = self._table
        """Name of the file whose rows come now."""
        self.reader = NamedReader(self._images.reader, getattr(self._images.reader, "parallel", 1))
        self._missing: str | None = None
        self._named: set[str] = set()
        self._suffix = ""
        self._has_images = False

    def resolve(self, number: int, image: str, label: str | None) -> Entry | None:
        """Return the entry of a row that names its image by path or URL; None for a row without a class."""
        row = f"{self._word} {number} of {self.file}"
        if not image or image.startswith(INLINE):
            reason = "has the image as text; store images as bytes in Parquet" if image else "names no image"
            return Entry(f"{self.file} {self._word} {number}", reason=f"{row}: {reason}")
        if is_url(image):
            self.reader.parallel = REMOTE_READS
            return self.entry(number, url_name(image), image, label)
        path = clean_path(image)
        found = self._find(path)
        if found is None:
            self._missing = self._missing or f"{path} ({row})"
            return Entry(path, reason=f"{row}: no such image")
        if found.reason is not None:
            return found._replace(reason=f"{row}: {found.reason}")
        return self.entry(number, found.file, found.place, label)

    def _find(self, path: str) -> Entry | None:
        """Return the image at a path, or at a path plus an image suffix, as the identifiers of Kaggle mean it."""
        path = posixpath.normpath(path.removeprefix(self._images.where + "/"))
        # what a table has composed, macOS decomposes in the names of files
        for spelled in dict.fromkeys([path, *(unicodedata.normalize(form, path) for form in ("NFC", "NFD"))]):
            for suffix in ("", self._suffix, *IMAGE_SUFFIXES):
                found = self._images.lookup(spelled + suffix)
                if found is not None:
                    self._suffix = suffix or self._suffix
                    self._named.add(found.file)
                    return found
        return None

    def entry(self, number: int, file: str, place: str, label: str | None) -> Entry | None:
        """Return the entry of a row whose image exists; None for a row without a class."""
        self._has_images = True
        if label is None and self._labelled:
            self._notes.add(f"rows of {self.file} have no class and are left out", f"{self._word} {number}")
            return None
        return Entry(file, "" if place == file else place, label)

    def finish(self) -> None:
        """Note the images that no row named; raise SemscaleError if rows name images of which none exists."""
        if self._missing is not None and not (self._named or self._has_images):
            what, found = "no image that the table names is there", f"no {self._missing}"
            hint = "set images: to the folder or archive that the paths of the table begin in"
            expected = f"images in {self._images.where}"
            raise DatasetError(what, where=self._where, found=found, expected=expected, hint=hint)
        for file in self._images.listing(self._named):
            if file not in self._named:
                self._notes.add(f"images have no {self._word} in {self._table} and are left out", file)
