"""Request of a labelling, and the listing of its input: images, whatever their classes, or the texts of a file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Literal, NamedTuple

from semscale.common.errors import SemscaleError
from semscale.common.filesystem import location, stem, without_query
from semscale.datasets.archives import is_archive
from semscale.datasets.base import Entry, Notes, Options, Reader, as_text
from semscale.datasets.bundled import BUNDLED
from semscale.datasets.dataset_builder import dataset_name
from semscale.datasets.loader_registry import open_source, schemes
from semscale.label.text_input import TEXT_SUFFIXES, read_texts

Kind = Literal["image", "text"]

DEFAULT_FOLDER = Path("semscale-labels")


class Item(NamedTuple):
    """An image or a text: its file name or words, its file name or line, and why it cannot be used."""

    name: str
    location: str
    place: str = ""
    reason: str | None = None


@dataclass(frozen=True)
class Listing:
    """An opened input; its items come in a stable order and are read once, which fills the notes."""

    kind: Kind
    title: str
    source: str
    items: Iterator[Item]
    reader: Reader | None = None
    notes: Notes = field(default_factory=Notes)


def open_listing(given: str, column: str | None = None) -> Listing:
    """Open a dataset's spec, an archive or folder of images, or a file with texts, without reading it.

    Of texts, or the images of a table, `column` is the column or field to read.
    """
    spec = _spec(given)
    if spec is None:
        texts = (Item(text, str(line), reason=fault) for line, text, fault in read_texts(given, column))
        return Listing("text", stem(given), location(given), texts)
    scheme, _, rest = spec.partition(":")
    # a rule for the class that no loader looks at, so that the source need not know the classes
    source = open_source(spec, Options(image=column, class_from="{class}"))
    images = map(_image, source.entries)
    address = f"{scheme}:{location(rest)}" if rest else spec
    return Listing("image", source.name, address, images, source.reader, source.notes)


def _spec(given: str) -> str | None:
    """Return the dataset's spec that an input stands for; None for a file with texts."""
    scheme, _, rest = given.partition(":")
    if given in BUNDLED or (rest and scheme in schemes()):
        return given
    path, name = os.path.expanduser(given), without_query(given).lower()
    is_file = "://" not in given and os.path.isfile(path)
    if is_archive(given) and (is_file or "://" in given):
        return f"{'zip' if name.endswith('.zip') else 'tar'}:{given}"
    if name.endswith(TEXT_SUFFIXES) and (is_file or "://" in given):
        return None
    if "://" in given or os.path.isdir(path):
        return f"folder:{given}"
    texts = f"texts ({', '.join(TEXT_SUFFIXES)})"
    if is_file:
        what, expected = "this file can be neither images nor texts, by its name", f".zip, .tar, .tar.gz, or {texts}"
    else:
        what = "there is nothing to label at this path"
        expected = f"images (a folder, an archive, {', '.join(BUNDLED)}, or a spec such as table:KEY.csv) or {texts}"
    raise SemscaleError(what, where=given, expected=expected)


def _image(entry: Entry) -> Item:
    name = as_text(entry.file)
    reason = entry.reason if name == entry.file else "the file's name is not UTF-8"
    return Item(name, name, entry.place or entry.file, reason)


@dataclass(frozen=True)
class Request:
    """What is to be labelled, with which categories (the earlier wins a tie), and by which encoder."""

    given: str
    categories: tuple[str, ...]
    model: str
    column: str | None = None
    limit: int | None = None
    encoder: str = "server"
    servers: tuple[str, ...] = ()
    actors: int | None = None

    def open(self) -> Listing:
        """Open the input; its items end at the limit."""
        listing = open_listing(self.given, self.column)
        items = islice(listing.items, self.limit)
        first = next(items, None)
        if first is None:
            found = "; ".join(listing.notes.lines()) or "nothing"
            raise SemscaleError("there is nothing to label", where=self.given, found=found, expected=f"{listing.kind}s")
        return replace(listing, items=chain([first], items))

    def default_out(self, listing: Listing) -> Path:
        """Return the folder of the results: the same for the same input, categories, model, column and limit."""
        parts = [self.column, self.limit, self.categories, listing.source, self.model]
        digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        return DEFAULT_FOLDER / f"{dataset_name(listing.title)[:60]}-{digest[:8]}"
