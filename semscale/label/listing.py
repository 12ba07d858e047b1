"""What is to be labelled: the images of a dataset, whatever their classes, or the texts of a file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from semscale.datasets.archives.lookup import is_archive
from semscale.datasets.base import Reader
from semscale.datasets.bundled import BUNDLED, load_bundled
from semscale.datasets.folder import FolderReader
from semscale.datasets.registry import open_source, schemes
from semscale.datasets.source import Entry, Notes, Options
from semscale.datasets.where import stem
from semscale.errors import SemscaleError
from semscale.label.texts import TEXT_SUFFIXES, read_texts

Kind = Literal["image", "text"]

# a rule that no loader looks at: it says that the class is not wanted from the source
_NO_CLASS = "{class}"


class Item(NamedTuple):
    """One image or text.

    Attributes:
        name: what stands in the results: the image's file name, or the text.
        spot: what stands in the quarantine: the file name, or the line.
        place: where the reader finds an image.
        reason: why it cannot be used; None when nothing speaks against it.
        stamp: size and time of an image file, so that a change between two runs shows.
    """

    name: str
    spot: str
    place: str = ""
    reason: str | None = None
    stamp: str = ""


@dataclass(frozen=True)
class Listing:
    """An opened input.

    Attributes:
        kind: whether it has images or texts.
        title: short name, for the progress and for folders.
        place: what it is: a spec, or a file or folder.
        state: of a file size and time; another one is another input.
        items: in a stable order, made while they are read; read once.
        reader: fetches images; None for texts.
        notes: filled while the items are read.
    """

    kind: Kind
    title: str
    place: str
    state: str
    items: Iterator[Item]
    reader: Reader | None = None
    notes: Notes = field(default_factory=Notes)


def open_listing(given: str, column: str | None = None) -> Listing:
    """Open an input without reading it.

    Args:
        given: a dataset's spec, an archive or folder of images, or a ``.csv``, ``.tsv``, ``.txt`` or ``.jsonl`` file
            with texts.
        column: which column or field has the texts, or the images of a table.

    Raises:
        SemscaleError: there is no such input, or the loader's own complaint.
    """
    spec = _spec(given)
    if spec is None:
        texts = (Item(row.text, str(row.line), reason=row.reason) for row in read_texts(given, column))
        return Listing("text", stem(given), _absolute(given), _state(given), texts)
    if spec in BUNDLED:
        dataset = load_bundled(spec)
        named = (Item(sample.file, sample.file, sample.place) for sample in dataset.samples)
        return Listing("image", spec, spec, "", named, dataset.reader)
    scheme, _, rest = spec.partition(":")
    source = open_source(spec, Options(image=column, class_from=_NO_CLASS))
    return Listing(
        "image",
        source.name,
        f"{scheme}:{_absolute(rest)}",
        _state(rest),
        (_image(entry, source.reader) for entry in source.entries),
        source.reader,
        source.notes,
    )


def _spec(given: str) -> str | None:
    """Return the dataset's spec that an input stands for; None for a file with texts."""
    scheme, _, rest = given.partition(":")
    if given in BUNDLED or (rest and scheme in schemes()):
        return given
    path = os.path.expanduser(given)
    if "://" not in given and os.path.isdir(path):
        return f"folder:{given}"
    if "://" not in given and not os.path.exists(path):
        raise SemscaleError(
            "there is nothing to label at this path",
            where=given,
            expected=f"images (a folder, an archive, {', '.join(BUNDLED)}, or a spec such as table:KEY.csv) or texts "
            f"({', '.join(TEXT_SUFFIXES)})",
        )
    ending = given.partition("?")[0].lower()
    if ending.endswith(TEXT_SUFFIXES):
        return None
    if is_archive(given):
        return f"{'zip' if ending.endswith('.zip') else 'tar'}:{given}"
    if "://" in given:
        return f"folder:{given}"
    raise SemscaleError(
        "this file can be neither images nor texts, by its name",
        where=given,
        expected=f".zip, .tar, .tar.gz, or {', '.join(TEXT_SUFFIXES)}",
    )


def _image(entry: Entry, reader: Reader) -> Item:
    place = entry.place or entry.file
    try:
        entry.file.encode()
    except UnicodeEncodeError:
        name = entry.file.encode(errors="surrogateescape").decode(errors="backslashreplace")
        return Item(name, name, reason="the file's name is not UTF-8")
    return Item(entry.file, entry.file, place, entry.reason, _stamp(reader, place))


def _stamp(reader: Reader, place: str) -> str:
    if not isinstance(reader, FolderReader) or "://" in reader.root:
        return ""
    return _state(os.path.join(reader.root, place))


def _state(path: str) -> str:
    """Return size and time of a local file; nothing for a folder, or what is not there or elsewhere."""
    if "://" in path:
        return ""
    try:
        found = os.stat(os.path.expanduser(path))
    except OSError:
        return ""
    return f"{found.st_size} {found.st_mtime_ns}" if stat.S_ISREG(found.st_mode) else ""


def _absolute(path: str) -> str:
    return path if "://" in path else os.path.abspath(os.path.expanduser(path))
