"""From the rows of a key to the listing: what each names is looked for, and what is missing is said with its line."""

from __future__ import annotations

from semscale.datasets.source import Entry, Notes
from semscale.datasets.tables.images import Images, clean_path, is_url, url_name
from semscale.errors import SemscaleError


class Key:
    """Turns rows into entries, one by one.

    Args:
        where: the key, for messages.
        word: what its rows are called: "line" or "row".
        images: where the images lie that rows name.
        notes: is told about rows without a class, and at the end about images without a row.
        labelled: rows have a class; otherwise a rule finds it in the path.

    Attributes:
        leaf: the name of the file whose rows come now.
    """

    def __init__(self, where: str, word: str, images: Images, notes: Notes, labelled: bool) -> None:
        self.where, self._word, self._images, self._notes, self._labelled = where, word, images, notes, labelled
        self._key = self.leaf = where.rstrip("/").rpartition("/")[2]
        self._missing: str | None = None
        self._found = False

    def named(self, number: int, image: str, label: str | None) -> Entry | None:
        """Return the entry of a row that names its image by path or URL; None for one without a class."""
        row = f"{self._word} {number} of {self.leaf}"
        if not image:
            return Entry(f"{self.leaf} {self._word} {number}", reason=f"{row}: names no image")
        if image.startswith("data:"):
            return Entry(f"{self.leaf} {self._word} {number}", reason=f"{row}: images as data: URLs are not read here")
        if is_url(image):
            self._found = True
            try:
                name = url_name(image)
            except ValueError as error:
                return Entry(f"{self.leaf} {self._word} {number}", reason=f"{row}: no URL: {error}")
            if "::" in image:
                return Entry(name, reason=f"{row}: chained URLs are not followed")
            return self.inline(number, name, image, label)
        path = clean_path(image)
        found = self._images.find(path)
        if found is None:
            self._missing = self._missing or f"{path} ({row})"
            return Entry(path, reason=f"{row}: no such image")
        self._found = True
        if found.reason is not None:
            return found._replace(reason=f"{row}: {found.reason}")
        return self.inline(number, found.file, found.place, label)

    def inline(self, number: int, file: str, place: str, label: str | None) -> Entry | None:
        """Return the entry of a row whose image is there; None for one without a class."""
        self._found = True
        if label is None and self._labelled:
            self._notes.add(f"rows of {self.leaf} have no class and are left out", f"{self._word} {number}")
            return None
        return Entry(file, "" if place == file else place, label)

    def finish(self) -> None:
        """Note the images that no row named.

        Raises:
            SemscaleError: not one of the images that rows name is there.
        """
        if self._missing is not None and not self._found:
            raise SemscaleError(
                "no image that the table names is there",
                where=self.where,
                found=f"no {self._missing}",
                expected=f"images in {self._images.place}",
                hint="set images: to the folder or archive that the paths of the table begin in",
            )
        for file in self._images.unnamed():
            self._notes.add(f"images have no {self._word} in {self._key} and are left out", file)
