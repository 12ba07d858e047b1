"""Loader of the image classification sets of ``torchvision.datasets``: ``torchvision:Flowers102:val``.

NAME is the class, upper or lower case. Its files are in the folder ``images``, or else in ``SEMSCALE_TORCHVISION``, or
else in ``semscale/torchvision`` of the user's cache, and are downloaded if they are missing and torchvision can do it.
Workers read at the same path; a node that does not see the files downloads them for itself.

Where the set is files, the images are those files. Where it is arrays (CIFAR, MNIST, SVHN, STL10), or publishes no
paths (Caltech), an image is an uncompressed PNG of its pixels, the same bytes on every machine.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock
from platformdirs import user_cache_path

from semscale.common.errors import DatasetError, summarize
from semscale.datasets.base import Entry, Notes, Options, Source
from semscale.datasets.class_from_path import choose_split
from semscale.datasets.folder import FolderReader
from semscale.datasets.hubs.collection_names import import_package, name_and_split, opened_once
from semscale.synthetic.numbered_images import encode_png

_Splits = Mapping[str, Mapping[str, Any]]


def _by(argument: str, values: str) -> _Splits:
    return {value: {argument: value} for value in values.split()}


_WHOLE: _Splits = {"all": {}}
_HALVES: _Splits = {"train": {"train": True}, "test": {"train": False}}

# class of torchvision.datasets -> split -> arguments of its constructor
SETS: dict[str, _Splits] = {
    **dict.fromkeys(["Caltech101", "Caltech256", "EuroSAT", "ImageFolder", "Omniglot", "SEMEION", "SUN397"], _WHOLE),
    **dict.fromkeys(["CIFAR10", "CIFAR100", "FashionMNIST", "KMNIST", "MNIST", "QMNIST", "USPS"], _HALVES),
    **dict.fromkeys(["FER2013", "Food101", "GTSRB", "StanfordCars"], _by("split", "train test")),
    **dict.fromkeys(["ImageNet", "Imagenette"], _by("split", "train val")),
    **dict.fromkeys(
        ["CLEVRClassification", "DTD", "Flowers102", "PCAM", "RenderedSST2"], _by("split", "train val test")
    ),
    "Country211": _by("split", "train valid test"),
    "EMNIST": {
        f"{kind}-{half}": {"split": kind, **arguments}
        for kind in ("byclass", "bymerge", "balanced", "letters", "digits", "mnist")
        for half, arguments in _HALVES.items()
    },
    "FGVCAircraft": _by("split", "train val trainval test"),
    "INaturalist": _by("version", "2017 2018 2019 2021_train 2021_train_mini 2021_valid"),
    "LFWPeople": _by("split", "10fold train test"),
    "OxfordIIITPet": _by("split", "trainval test"),
    "Places365": _by("split", "train-standard train-challenge val test"),
    "STL10": _by("split", "train train+unlabeled unlabeled test"),
    "SVHN": _by("split", "train test extra"),
}
_WITHOUT_DOWNLOAD = {"FER2013", "ImageFolder", "ImageNet"}

# the attributes in which torchvision's classes have their images and labels, the files and the class names
_PAIRS = ("samples", "imgs", "_samples")
_FILES = ("_image_files", "_images", "data")
_TARGETS = ("targets", "_labels", "labels", "y")
_CLASSES = ("classes", "categories", "all_categories")

_SERVER_TIMEOUT_S = 30.0
"""How long a server that stopped sending may be silent; torchvision itself sets no limit."""


class Part(NamedTuple):
    """A split of a torchvision set: the set's name in `SETS`, the absolute folder of its files, the split's name."""

    name: str
    root: str
    split: str


@dataclass(frozen=True)
class TorchvisionReader:
    """Reader of images by their paths below the folder, or by ``split:number``; opens a set once per process.

    Where images are files, the set is opened only if one is missing, to download what this machine lacks.
    """

    parts: tuple[Part, ...]
    has_files: bool

    def read(self, place: str) -> bytes:
        """Return the bytes of an image, of an array as PNG. Raises OSError when it cannot be read."""
        if self.has_files:
            files = FolderReader(self.parts[0].root)
            try:
                return files.read(place)
            except FileNotFoundError:
                for part in self.parts:
                    _open_once(part)
                return files.read(place)
        split, _, number = place.rpartition(":")
        dataset = _open_once(self.parts[0]._replace(split=split))
        try:
            return encode_png(np.asarray(dataset[int(number)][0].convert("RGB")))
        except Exception as error:  # Pillow's plugins raise nearly anything on broken files
            raise OSError(summarize(error)) from error


def open_source(rest: str, options: Options) -> Source:
    """Open a set of torchvision; see the module for where its files are."""
    given, wanted = name_and_split(rest, options.split)
    name, notes = _find_set(given), Notes()
    splits = tuple(SETS[name])
    cache = user_cache_path("semscale") / "torchvision"
    root = os.path.abspath(os.path.expanduser(options.images or os.environ.get("SEMSCALE_TORCHVISION") or cache))
    chosen = choose_split(() if splits == ("all",) else splits, wanted, notes, f"torchvision:{name}")
    parts = tuple(Part(name, root, split) for split in splits if chosen in (None, split))
    first = _open(parts[0])
    names = _class_names(first)
    has_files = _image_files(first) is not None
    reader = TorchvisionReader(parts, has_files)
    return Source(name.lower(), reader, _entries(parts, first, has_files), notes, names)


def _find_set(given: str) -> str:
    known = {name.casefold(): name for name in SETS}
    if given.casefold() in known:
        return known[given.casefold()]
    near = [known[other] for other in difflib.get_close_matches(given.casefold(), known, n=3)]
    what, expected = "torchvision has no such set for image classification", f"one of {', '.join(SETS)}"
    hint = f"did you mean {' or '.join(near)}?" if near else None
    raise DatasetError(what, where=f"torchvision:{given}", expected=expected, hint=hint)


def _open(part: Part) -> Any:
    """Return the torchvision dataset, downloaded first if its files are missing."""
    dataset_class, arguments = (
        getattr(import_package("torchvision.datasets", "torchvision"), part.name),
        SETS[part.name][part.split],
    )
    can_download = part.name not in _WITHOUT_DOWNLOAD
    try:
        if not can_download:
            return dataset_class(part.root, **arguments)
        with _only_downloader(part.root):
            try:
                return dataset_class(part.root, download=False, **arguments)
            except (RuntimeError, OSError):
                return dataset_class(part.root, download=True, **arguments)
    except Exception as error:  # broken pickles, MAT files and archives raise nearly anything
        what = "the torchvision dataset cannot be opened" + (" or downloaded" if can_download else "")
        where = f"torchvision:{part.name} in {part.root}"
        hint = "put its files there, or name their folder under images:"
        found = " ".join(str(error).split())[:300]  # torchvision names each mirror on a line
        raise DatasetError(what, where=where, found=found, hint=hint) from error


_open_once = opened_once(2)(_open)


@contextlib.contextmanager
def _only_downloader(root: str) -> Iterator[None]:
    """Let one process of all that see the folder download, and give up on a silent server."""
    os.makedirs(root, exist_ok=True)
    before = socket.getdefaulttimeout()
    # nothing can be downloaded into a read-only folder
    with FileLock(os.path.join(root, ".semscale.lock")) if os.access(root, os.W_OK) else contextlib.nullcontext():
        socket.setdefaulttimeout(_SERVER_TIMEOUT_S)
        try:
            yield
        finally:
            socket.setdefaulttimeout(before)


def _entries(parts: Sequence[Part], first: Any, has_files: bool) -> Iterator[Entry]:
    for part in parts:
        dataset = first if part is parts[0] else _open(part)
        paths = _image_files(dataset) if has_files else None
        for number, label in enumerate(_class_numbers(dataset)):
            text = None if label is None or int(label) < 0 else str(int(label))
            if paths is not None:
                yield Entry(os.path.relpath(paths[number], part.root), label=text)
            else:
                yield Entry(f"{part.name}/{part.split}/{number:06d}.png", f"{part.split}:{number}", text)


def _attributes(dataset: Any, names: Sequence[str]) -> Iterator[list[Any]]:
    """Yield those of some attributes that are lists, or arrays of one axis, with an item for each image."""
    for name in names:
        values: Any = getattr(dataset, name, None)
        values = values.tolist() if getattr(values, "ndim", 0) == 1 else values
        if isinstance(values, list) and len(values) == len(dataset) > 0:
            yield values


def _image_files(dataset: Any) -> list[str] | None:
    """Return the path of every image where the dataset publishes them, else None."""
    for values in _attributes(dataset, (*_PAIRS, *_FILES)):
        paths = [value[0] for value in values] if isinstance(values[0], tuple) else values
        if isinstance(paths[0], str | os.PathLike) and any(map(os.path.isfile, paths[:100])):
            return [os.fspath(path) for path in paths]
    return None


def _class_numbers(dataset: Any) -> Iterator[Any]:
    """Yield the class of every image; only a dataset that keeps no list of them is read for it."""
    for values in _attributes(dataset, (*_PAIRS, *_TARGETS)):
        numbers = [value[1] for value in values] if isinstance(values[0], tuple) and len(values[0]) == 2 else values
        if numbers[0] is None or hasattr(numbers[0], "__index__"):
            return iter(numbers)
    return (dataset[index][1] for index in range(len(dataset)))


def _class_names(dataset: Any) -> tuple[str, ...] | None:
    """Return the class names in the dataset's order, the first of several synonyms; None where it has none."""
    for name in _CLASSES:
        names = getattr(dataset, name, None)
        if isinstance(names, list | tuple) and names:
            return tuple(name if isinstance(name, str) else str(name[0]) for name in names)
    index = getattr(dataset, "class_to_idx", None)
    if isinstance(index, Mapping) and sorted(index.values()) == list(range(len(index))):
        return tuple(sorted(index, key=index.__getitem__))
    return None
