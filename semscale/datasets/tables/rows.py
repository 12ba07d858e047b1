"""Resolution of table rows to images and classes."""

from __future__ import annotations

import math
import posixpath
import re

from semscale.datasets.source import IMAGE_SUFFIXES, Entry, Notes
from semscale.datasets.tables.images import ImageLocation, clean_path, is_url, url_name
from semscale.errors import SemscaleError

_INLINE = "data:"  # what the name of an image begins with that is in the cell itself
_SURROGATE = re.compile("[\ud800-\udfff]")


def class_name(value: object, where: str) -> str | None:
    """Return the class in a cell as text; None for what stands for "no class".

    >>> [class_name(value, "") for value in ("Tulip ", 3, 3.0, True, "", None, float("nan"))]
    ['Tulip', '3', '3', 'true', None, None, None]
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str | int | float):
        return plain_text(str(value), where) or None
    what = "the class of a row is no text and no number"
    hint = "set label: to the field that has it, in an object by its dotted path (annotation.class)"
    raise SemscaleError(what, where=where, found=type(value).__name__, hint=hint)


def text_fault(text: str) -> str | None:
    """Return why a text cannot be used: NULs, or what is no Unicode."""
    if bad := _SURROGATE.search(text):
        code = ord(bad[0]) - 0xDC00  # how bytes that are not UTF-8 are decoded
        return f"the text is not UTF-8: byte 0x{code:02x}" if 0x80 <= code <= 0xFF else "the text is not Unicode"
    return "the text has NUL bytes, as in UTF-16" if "\0" in text else None


def plain_text(text: str, where: str) -> str:
    """Return a text without surrounding white space; raise SemscaleError if it cannot be used."""
    fault = text_fault(text)
    if fault is not None:
        found = f"{fault}, in {text[:80]!a}"
        raise SemscaleError("a text of the file cannot be read", where=where, found=found, hint="save it as UTF-8")
    return text.strip()


def image_name(value: object, where: str) -> str:
    """Return the path or URL in an image cell, empty if there is none; ``data:`` if the cell is the image itself.

    >>> image_name({"path": "a/1.png"}, ""), image_name(7, ""), image_name({"bytes": "iVBORw=="}, "")
    ('a/1.png', '7', 'data:')
    """
    if isinstance(value, dict):
        if value.get("bytes"):
            return _INLINE
        named = [value[name] for name in ("path", "url") if isinstance(value.get(name), str)]
        value = named[0] if named else None if "bytes" in value or "path" in value else value
    if value is None:
        return ""
    if isinstance(value, str | int) and not isinstance(value, bool):
        return plain_text(str(value), where)
    raise SemscaleError(
        "the image of a row is no path and no URL",
        where=where,
        found=type(value).__name__,
        expected='a text, or an object such as {"path": "1.jpg"}',
        hint="set image: to the field that has it, in an object by its dotted path (picture.file)",
    )


class RowResolver:
    """Turns the rows of an annotation table into entries; `word` is what a row is called, "line" or "row"."""

    def __init__(self, where: str, word: str, images: ImageLocation, notes: Notes, *, labelled: bool) -> None:
        self._where, self._word, self._images, self._notes, self._labelled = where, word, images, notes, labelled
        self._table = where.rstrip("/").rpartition("/")[2]
        self.file = self._table
        """Name of the file whose rows come now."""
        self._missing: str | None = None
        self._named: set[str] = set()
        self._suffix = ""
        self._any_found = False

    def resolve(self, number: int, image: str, label: str | None) -> Entry | None:
        """Return the entry of a row that names its image by path or URL; None for a row without a class."""
        row = f"{self._word} {number} of {self.file}"
        if not image or image.startswith(_INLINE):
            reason = "has the image as text; store images as bytes in Parquet" if image else "names no image"
            return Entry(f"{self.file} {self._word} {number}", reason=f"{row}: {reason}")
        if is_url(image):
            return self.entry(number, url_name(image), image, label)
        path = clean_path(image)
        found = self._find(path)
        if found is None:
            self._missing = self._missing or f"{path} ({row})"
            return Entry(path, reason=f"{row}: no such image")
        if found.reason is not None:
            self._any_found = True
            return found._replace(reason=f"{row}: {found.reason}")
        return self.entry(number, found.file, found.place, label)

    def _find(self, path: str) -> Entry | None:
        """Return the image at a path, or at a path plus an image suffix, as the identifiers of Kaggle mean it."""
        path = posixpath.normpath(path.removeprefix(self._images.where + "/"))
        for top in self._images.tops:
            for suffix in ("", self._suffix, *IMAGE_SUFFIXES):
                found = self._images.lookup(top + path + suffix)
                if found is not None:
                    self._suffix = suffix or self._suffix
                    self._named.add(found.file)
                    return found
        return None

    def entry(self, number: int, file: str, place: str, label: str | None) -> Entry | None:
        """Return the entry of a row whose image exists; None for a row without a class."""
        self._any_found = True
        if label is None and self._labelled:
            self._notes.add(f"rows of {self.file} have no class and are left out", f"{self._word} {number}")
            return None
        return Entry(file, "" if place == file else place, label)

    def finish(self) -> None:
        """Note the images that no row named; raise SemscaleError if rows name images of which none exists."""
        if self._missing is not None and not self._any_found:
            raise SemscaleError(
                "no image that the table names is there",
                where=self._where,
                found=f"no {self._missing}",
                expected=f"images in {self._images.where}",
                hint="set images: to the folder or archive that the paths of the table begin in",
            )
        for file in self._images.listing(self._named):
            if file not in self._named:
                self._notes.add(f"images have no {self._word} in {self._table} and are left out", file)
