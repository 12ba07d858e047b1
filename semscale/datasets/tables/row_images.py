"""Row resolver: maps the rows of an annotation table to images in a folder, in an archive, or at URLs."""

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
    absolute_path,
    is_hidden,
    is_local,
    is_transient_error,
    read_image_file,
    without_query,
)
from semscale.common.redact import mask_url
from semscale.datasets import archives
from semscale.datasets.dataset import IMAGE_SUFFIXES, DatasetOptions, ListedImage, ListingWarnings, Reader
from semscale.datasets.folder import FolderReader, open_listing
from semscale.datasets.tables.text_records import INLINE


def is_url(text: str) -> bool:
    """Return whether a row's path of an image is a URL."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) is not None


def url_name(url: str) -> str:
    """Return a URL as a file name for tables; the query, which may contain secrets, is replaced by a short hash."""
    base, separator, query = url.partition("?")
    return mask_url(base) + (separator and f"?{hashlib.sha256(query.encode()).hexdigest()[:8]}")


def clean_path(text: str) -> str:
    r"""Return a path with forward slashes and without leading ``./``."""
    return re.sub(r"^(\./+)+", "", text.replace("\\", "/"))


@dataclass
class PathOrUrlReader:
    """Reader of images by URL, or by path in the image source of a table, by `parallel` concurrent reads."""

    images: Reader
    parallel: int

    def read(self, location: str) -> bytes:
        """Return the bytes of an image. Raises OSError."""
        if not is_url(location):
            return self.images.read(location)
        if "::" in location:
            raise OSError("chained URLs are not followed")
        return read_image_file(location)


@dataclass(frozen=True)
class ImageSource:
    """Image source of a table: a folder or an archive."""

    where: str
    reader: Reader
    lookup: Callable[[str], ListedImage | None] = ListedImage
    """Returns the image at a path, with a reason if it is unusable; in a remote folder without a check of the path."""
    list_files: Callable[[set[str]], Iterable[str]] = lambda referenced: ()
    """Returns the images of the source that can be listed, given those that rows refer to."""


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


def _open_images(table: str, images: str | None) -> ImageSource:
    """Return the image source of a table: the folder or archive `images`, or the folder of the table."""
    if images is not None and archives.is_archive(images):
        return _open_archive(absolute_path(images))
    table_folder = os.path.dirname(table) if is_local(table) else without_query(table).rpartition("/")[0]
    folder = table_folder if images is None else images
    if not is_local(folder):
        return ImageSource(mask_url(folder), FolderReader(folder, parallel=REMOTE_READS))
    root = absolute_path(folder)
    if not os.path.isdir(root):
        what, expected = "the folder of the table's images does not exist", "a folder or archive (.zip, .tar, ...)"
        hint = "images: is relative to the current folder, not to the table"
        raise DatasetError(what, where=root, expected=expected, hint=hint)

    def lookup(path: str) -> ListedImage | None:
        try:
            return ListedImage(path) if stat.S_ISREG(os.stat(os.path.join(root, path)).st_mode) else None
        except (OSError, ValueError) as error:
            if not is_transient_error(error):
                return None
            what, hint = "an image of the table cannot be looked up at the moment", "run the same command again"
            raise DatasetError(what, where=path, found=str(error), hint=hint) from error

    def list_files(referenced: set[str]) -> Iterable[str]:
        if images is not None:
            return (entry.file for entry in open_listing(root, DatasetOptions()).entries)
        folders = sorted({posixpath.dirname(file) for file in referenced})
        files = (posixpath.join(folder, name) for folder in folders for name in sorted(os.listdir(f"{root}/{folder}")))
        return (file for file in files if file.lower().endswith(IMAGE_SUFFIXES) and not is_hidden(file))

    return ImageSource(root, FolderReader(root), lookup, list_files)


def _open_archive(path: str) -> ImageSource:
    members: dict[str, ListedImage] = {}
    listing = archives.open_listing(path, DatasetOptions())
    for entry in listing.entries:
        members.setdefault(entry.file, entry)
    tops = {name.partition("/")[0] if "/" in name else "" for name in members}
    top = f"{tops.pop()}/" if len(tops) == 1 and "" not in tops else ""  # which paths may omit

    def lookup(path: str) -> ListedImage | None:
        return members.get(path) or members.get(top + path)

    return ImageSource(mask_url(path), listing.reader, lookup, lambda referenced: members)


class RowResolver:
    """Resolver of the rows of the annotation table at `path`; `word` is the word for a row, "line" or "row".

    The images are in the folder or archive `images`, by default in the table's folder. With `labelled` each row needs
    a class.
    """

    def __init__(self, path: str, images: str | None, warnings: ListingWarnings, word: str, *, labelled: bool) -> None:
        where = mask_url(path)
        self._where, self._word, self._warnings, self._labelled = where, word, warnings, labelled
        self._images = _open_images(path, images)
        self._table = where.rstrip("/").rpartition("/")[2]
        self.file = self._table
        """Name of the file whose rows are being resolved."""
        self.reader = PathOrUrlReader(self._images.reader, getattr(self._images.reader, "parallel", 1))
        self._missing: str | None = None
        self._referenced: set[str] = set()
        self._suffix = ""
        self._has_images = False

    def resolve(self, number: int, image: str, label: str | None) -> ListedImage | None:
        """Return the entry of a row with the path or URL of an image; None for a row without a class."""
        row = f"{self._word} {number} of {self.file}"
        if not image or image.startswith(INLINE):
            reason = "has the image as text; store images as bytes in Parquet" if image else "names no image"
            return ListedImage(f"{self.file} {self._word} {number}", reason=f"{row}: {reason}")
        if is_url(image):
            self.reader.parallel = REMOTE_READS
            return self.make_entry(number, url_name(image), image, label)
        path = clean_path(image)
        entry = self._find(path)
        if entry is None:
            self._missing = self._missing or f"{path} ({row})"
            return ListedImage(path, reason=f"{row}: no such image")
        if entry.reason is not None:
            return entry._replace(reason=f"{row}: {entry.reason}")
        return self.make_entry(number, entry.file, entry.location, label)

    def _find(self, path: str) -> ListedImage | None:
        """Return the image at a path, or at a path plus an image suffix, as for the identifiers of Kaggle."""
        path = posixpath.normpath(path.removeprefix(self._images.where + "/"))
        # macOS decomposes (NFD) in file names what a table has composed (NFC)
        for spelling in dict.fromkeys([path, *(unicodedata.normalize(form, path) for form in ("NFC", "NFD"))]):
            for suffix in ("", self._suffix, *IMAGE_SUFFIXES):
                entry = self._images.lookup(spelling + suffix)
                if entry is not None:
                    self._suffix = suffix or self._suffix
                    self._referenced.add(entry.file)
                    return entry
        return None

    def make_entry(self, number: int, file: str, location: str, label: str | None) -> ListedImage | None:
        """Return the entry of a row whose image exists; None for a row without a class."""
        self._has_images = True
        if label is None and self._labelled:
            self._warnings.add(f"rows of {self.file} have no class and are left out", f"{self._word} {number}")
            return None
        return ListedImage(file, "" if location == file else location, label)

    def finish(self) -> None:
        """Warn about images without a row. Raises DatasetError if none of the rows' images exists."""
        if self._missing is not None and not (self._referenced or self._has_images):
            what, found = "none of the table's images exists", f"no {self._missing}"
            hint = "set images: to the folder or archive to which the paths of the table are relative"
            expected = f"images in {self._images.where}"
            raise DatasetError(what, where=self._where, found=found, expected=expected, hint=hint)
        for file in self._images.list_files(self._referenced):
            if file not in self._referenced:
                self._warnings.add(f"images have no {self._word} in {self._table} and are left out", file)
