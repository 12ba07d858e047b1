"""Resolution of table rows to listed images; a row whose image is missing keeps the reason with its line."""

from __future__ import annotations

from semscale.datasets.source import Entry, Notes
from semscale.datasets.tables.cells import INLINE
from semscale.datasets.tables.images import RemoteFolder, clean_path, is_url, url_name
from semscale.errors import SemscaleError


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
