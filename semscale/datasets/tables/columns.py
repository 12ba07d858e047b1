"""Choice of the image, class and split columns of a table, by option or by their usual names."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from semscale.datasets.source import Options
from semscale.errors import SemscaleError

# what comes first wins; names in one group are equals, and two of them in one table are ambiguous
IMAGE_NAMES = (
    (
        "file", "file name", "file path", "filename", "filepath", "fname", "image", "image file", "image file name",
        "image filename", "image name", "image path", "image url", "img", "img name", "img path", "img url", "path",
        "photo", "picture", "url",
    ),
    ("id", "image id", "img id"),
)  # fmt: skip
LABEL_NAMES = (
    (
        "category", "category name", "class", "class label", "class name", "label", "label name", "species", "target",
        "true class", "true label",
    ),
)  # fmt: skip
SPLIT_NAMES = (("partition", "split", "subset"),)


@dataclass(frozen=True)
class Columns:
    """The columns of a table that a listing reads.

    Attributes:
        image: path or URL of the image.
        label: the class; None where a rule finds it in the path.
        split: the split of each row; None if there is no such column.
    """

    image: str
    label: str | None
    split: str | None = None


def choose_columns(found: Sequence[str], options: Options, where: str) -> Columns:
    """Return the columns of a table to read; with ``options.class_from`` the class column is optional.

    Raises:
        SemscaleError: a column of the options is missing, or the names are ambiguous.

    >>> choose_columns(["ID", "File_Name", "Class"], Options(), "key.csv")
    Columns(image='File_Name', label='Class', split=None)
    """
    image = pick_column(found, options.image, IMAGE_NAMES, "image", where)
    label = None
    if options.class_from is None or options.label is not None:
        label = pick_column(found, options.label, LABEL_NAMES, "label", where)
    return Columns(image, label, next(iter(_named(found, SPLIT_NAMES)), None))


def pick_column(
    found: Sequence[str], wanted: str | None, names: Sequence[Sequence[str]], option: str, where: str
) -> str:
    """Return the column that an option names, or else the only one with one of the usual names.

    Raises:
        SemscaleError: it is missing or ambiguous.
    """
    what = {"image": "the image", "label": "the class"}[option]
    listed = ", ".join(repr(name) for name in found) or "none"
    if wanted is not None:
        if wanted not in found:
            near = difflib.get_close_matches(wanted, found, n=1)
            raise SemscaleError(
                f"the table has no column {wanted!r}",
                where=where,
                found=f"columns {listed}",
                expected=f"the column of {what}",
                hint=f"did you mean {option}: {near[0]}?" if near else f"set {option}: to one of these",
            )
        chosen = [name for name in found if name == wanted]
    else:
        chosen = _named(found, names)
    if len(chosen) == 1:
        return chosen[0]
    if chosen:
        raise SemscaleError(
            f"several columns of the table could have {what}",
            where=where,
            found=", ".join(repr(name) for name in chosen),
            hint=f"set {option}: to the right one" if wanted is None else "give each column a name of its own",
        )
    raise SemscaleError(
        f"the table does not say which column has {what}",
        where=where,
        found=f"columns {listed}",
        expected=f"a column with a name such as {', '.join(names[0][:3])}",
        hint=f"set {option}: to the right one; the first line of a CSV file names the columns",
    )


def _named(found: Sequence[str], names: Sequence[Sequence[str]]) -> list[str]:
    for group in names:
        chosen = [name for name in found if " ".join(name.casefold().replace("_", " ").split()) in group]
        if chosen:
            return chosen
    return []
