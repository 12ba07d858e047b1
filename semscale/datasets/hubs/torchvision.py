"""Image classification sets of ``torchvision.datasets``: ``torchvision:CIFAR10``, ``torchvision:Flowers102:val``.

NAME is the class, upper or lower case. Its files lie in the folder ``images``, or else in ``SEMSCALE_TORCHVISION``, or
else in ``semscale/torchvision`` of the user's cache, and are downloaded if they are missing and torchvision can do it.
Workers read at the same path; a node that does not see the files downloads them for itself.

Where the set is files, the images are those files as they lie. Where it is arrays (CIFAR, MNIST, SVHN, STL10), or
publishes no paths (Caltech), an image is an uncompressed PNG of its pixels, the same bytes on every machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semscale.datasets.folder import FolderReader
from semscale.datasets.hubs.named import name_and_split, opened_once, short, splits_to_read
from semscale.datasets.hubs.visionset import (
    Part,
    check_classification,
    class_names,
    class_numbers,
    find_parts,
    find_set,
    image_files,
    open_part,
)
from semscale.datasets.source import Entry, Notes, Options, Source
from semscale.errors import SemscaleError
from semscale.synthetic.png import encode_png


@dataclass(frozen=True)
class PixelReader:
    """Reads images of a set of arrays by ``split:number``; opens the set once per process.

    Attributes:
        parts: the splits.
    """

    parts: tuple[tuple[str, Part], ...]

    def read(self, place: str) -> bytes:
        """Return an image as PNG. Raises OSError when the set is not on this machine or the image is broken."""
        split, _, number = place.rpartition(":")
        dataset = _kept(dict(self.parts)[split])
        if isinstance(dataset, str):
            raise OSError(dataset)
        try:
            image = dataset[int(number)][0]
            return encode_png(np.asarray(image.convert("RGB")))
        except Exception as error:  # Pillow's plugins raise nearly anything on broken files
            raise OSError(short(error)) from error


@dataclass(frozen=True)
class FileReader:
    """Reads the files of a set by their paths below its folder; torchvision itself is asked only if one is missing.

    Attributes:
        root: the folder of the set.
        parts: the splits.
    """

    root: str
    parts: tuple[Part, ...]

    def read(self, place: str) -> bytes:
        """Return the bytes of an image. Raises OSError when it cannot be read."""
        files = FolderReader(self.root)
        try:
            return files.read(place)
        except FileNotFoundError:
            for found in map(_kept, self.parts):
                if isinstance(found, str):
                    raise OSError(found) from None
            return files.read(place)


def open_source(rest: str, options: Options) -> Source:
    """Open a set of torchvision; see the module for where its files lie.

    Raises:
        SemscaleError: torchvision is missing, has no such set, or it is none for classification; no such split; its
            files are neither there nor to be had.
    """
    named, wanted = name_and_split(rest, options.split)
    name, root = find_set(named), _root(options.images)
    where = f"torchvision:{name}"
    notes = Notes()
    parts = find_parts(name, root)
    if len(parts) == 1 and wanted not in (None, "all"):
        raise SemscaleError("the dataset has no splits", where=where, found=f"split: {wanted}", expected="no split")
    chosen = {split: parts[split] for split in splits_to_read(list(parts), wanted, notes, where)}
    first = open_part(next(iter(chosen.values())))
    check_classification(first, name)
    names = class_names(first)
    published = image_files(first) is not None
    return Source(
        name.lower(),
        FileReader(root, tuple(chosen.values())) if published else PixelReader(tuple(chosen.items())),
        _entries(name, root, chosen, first, published),
        notes,
        classes=names,
        labels={str(number): text for number, text in enumerate(names or ())},
    )


def _root(images: str | None) -> str:
    cache = os.environ.get("XDG_CACHE_HOME")
    usual = (Path(cache) if cache else Path.home() / ".cache") / "semscale" / "torchvision"
    return os.path.abspath(os.path.expanduser(images or os.environ.get("SEMSCALE_TORCHVISION") or usual))


def _entries(name: str, root: str, parts: Mapping[str, Part], first: Any, published: bool) -> Iterator[Entry]:
    for position, (split, part) in enumerate(parts.items()):
        dataset = open_part(part) if position else first
        paths = image_files(dataset) if published else None
        for number, label in enumerate(class_numbers(dataset)):
            text = None if label is None else str(label)
            if paths is not None:
                yield Entry(os.path.relpath(paths[number], root), label=text)
            else:
                yield Entry(f"{name}/{split}/{number:06d}.png", f"{split}:{number}", text)


@opened_once(2)
def _kept(part: Part) -> Any:
    """Return the opened set, or why it cannot be opened, which is kept, or every image would wait for it."""
    try:
        return open_part(part)
    except SemscaleError as error:
        return f"{error.what}: {error.found}"
