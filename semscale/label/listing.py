"""Label request, and the listing of its input: images without classes, or the texts of a file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Literal, NamedTuple

from semscale.common.errors import DatasetError
from semscale.common.filesystem import absolute_path, stem, without_query
from semscale.datasets.archives import is_archive
from semscale.datasets.bundled import BUNDLED
from semscale.datasets.dataset import DatasetOptions, ListedImage, ListingWarnings, Reader, utf8_name
from semscale.datasets.dataset_builder import dataset_name
from semscale.datasets.loader_registry import open_listing, schemes
from semscale.label.text_input import TEXT_SUFFIXES, read_texts

Kind = Literal["image", "text"]

DEFAULT_FOLDER = Path("semscale-labels")


class InputItem(NamedTuple):
    """Image or text: file name or text, identifier (file name or line), location, and why it cannot be used."""

    name: str
    identifier: str
    location: str = ""
    reason: str | None = None


@dataclass(frozen=True)
class InputListing:
    """Listing of an opened input; its items have a stable order and are read once, which fills the warnings."""

    kind: Kind
    title: str
    address: str
    items: Iterator[InputItem]
    reader: Reader | None = None
    warnings: ListingWarnings = field(default_factory=ListingWarnings)


def open_input(source: str, column: str | None = None) -> InputListing:
    """Open a dataset spec, an archive or folder of images, or a file with texts, without reading it.

    `column` is the column or field with the texts, or with the images of a table.
    """
    spec = _dataset_spec(source)
    if spec is None:
        texts = (InputItem(text, str(line), reason=fault) for line, text, fault in read_texts(source, column))
        return InputListing("text", stem(source), absolute_path(source), texts)
    scheme, _, rest = spec.partition(":")
    # with a rule for the class, which is not applied, no loader requires classes
    listing = open_listing(spec, DatasetOptions(image=column, class_from="{class}"))
    images = map(_image_item, listing.entries)
    address = f"{scheme}:{absolute_path(rest)}" if rest else spec
    return InputListing("image", listing.name, address, images, listing.reader, listing.warnings)


def _dataset_spec(source: str) -> str | None:
    """Return the dataset spec of an input; None for a file with texts."""
    scheme, _, rest = source.partition(":")
    if source in BUNDLED or (rest and scheme in schemes()):
        return source
    path, name = os.path.expanduser(source), without_query(source).lower()
    is_file = "://" not in source and os.path.isfile(path)
    if is_archive(source) and (is_file or "://" in source):
        return f"{'zip' if name.endswith('.zip') else 'tar'}:{source}"
    if name.endswith(TEXT_SUFFIXES) and (is_file or "://" in source):
        return None
    if "://" in source or os.path.isdir(path):
        return f"folder:{source}"
    texts = f"texts ({', '.join(TEXT_SUFFIXES)})"
    if is_file:
        what, expected = "the file's ending is neither of images nor of texts", f".zip, .tar, .tar.gz, or {texts}"
    else:
        what = "the input does not exist"
        expected = f"images (a folder, an archive, {', '.join(BUNDLED)}, or a spec such as table:FILE.csv) or {texts}"
    raise DatasetError(what, where=source, expected=expected)


def _image_item(entry: ListedImage) -> InputItem:
    name = utf8_name(entry.file)
    reason = entry.reason if name == entry.file else "the file's name is not UTF-8"
    return InputItem(name, name, entry.location or entry.file, reason)


@dataclass(frozen=True)
class LabelRequest:
    """Label request: input, categories (the earlier one wins a tie), model and encoder."""

    source: str
    categories: tuple[str, ...]
    model: str
    column: str | None = None
    limit: int | None = None
    encoder: str = "server"
    servers: tuple[str, ...] = ()
    actors: int | None = None

    def open(self) -> InputListing:
        """Open the input, with at most `limit` items."""
        listing = open_input(self.source, self.column)
        items = islice(listing.items, self.limit)
        first = next(items, None)
        if first is None:
            found = "; ".join(listing.warnings.lines()) or "nothing"
            raise DatasetError("the input is empty", where=self.source, found=found, expected=f"{listing.kind}s")
        return replace(listing, items=chain([first], items))

    def default_folder(self, listing: InputListing) -> Path:
        """Return the folder of the results, a function of input, categories, model, column and limit."""
        parts = [self.column, self.limit, self.categories, listing.address, self.model]
        digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        return DEFAULT_FOLDER / f"{dataset_name(listing.title)[:60]}-{digest[:8]}"
