"""Loader of the image classification datasets of ``torchvision.datasets``: ``torchvision:Flowers102:val``.

The name is that of the class, case-insensitive. Its files are in the folder ``images``, else ``SEMSCALE_TORCHVISION``,
else ``semscale/torchvision`` in the user's cache; missing files are downloaded if torchvision supports it. Workers read
at the same path; a node without the files downloads them.

If the dataset consists of files, these are the images. If it consists of arrays (CIFAR, MNIST, SVHN, STL10) or exposes
no paths (Caltech), an image is an uncompressed PNG of its pixels, the same bytes on every machine.
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
from semscale.datasets.class_from_path import choose_split
from semscale.datasets.dataset import DatasetListing, DatasetOptions, ListedImage, ListingWarnings
from semscale.datasets.folder import FolderReader
from semscale.datasets.hubs.collection_names import cached_for_readers, import_package, name_and_split
from semscale.synthetic.numbered_images import encode_png

_Splits = Mapping[str, Mapping[str, Any]]


def _by(argument: str, values: str) -> _Splits:
    return {value: {argument: value} for value in values.split()}


_WHOLE: _Splits = {"all": {}}
_TRAIN_TEST: _Splits = {"train": {"train": True}, "test": {"train": False}}

# class of torchvision.datasets -> split -> arguments of its constructor
DATASETS: dict[str, _Splits] = {
    **dict.fromkeys(["Caltech101", "Caltech256", "EuroSAT", "ImageFolder", "Omniglot", "SEMEION", "SUN397"], _WHOLE),
    **dict.fromkeys(["CIFAR10", "CIFAR100", "FashionMNIST", "KMNIST", "MNIST", "QMNIST", "USPS"], _TRAIN_TEST),
    **dict.fromkeys(["FER2013", "Food101", "GTSRB", "StanfordCars"], _by("split", "train test")),
    **dict.fromkeys(["ImageNet", "Imagenette"], _by("split", "train val")),
    **dict.fromkeys(
        ["CLEVRClassification", "DTD", "Flowers102", "PCAM", "RenderedSST2"], _by("split", "train val test")
    ),
    "Country211": _by("split", "train valid test"),
    "EMNIST": {
        f"{kind}-{name}": {"split": kind, **arguments}
        for kind in ("byclass", "bymerge", "balanced", "letters", "digits", "mnist")
        for name, arguments in _TRAIN_TEST.items()
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

# attributes of torchvision's classes: images with labels, files, labels, class names
_PAIRS = ("samples", "imgs", "_samples")
_FILES = ("_image_files", "_images", "data")
_TARGETS = ("targets", "_labels", "labels", "y")
_CLASSES = ("classes", "categories", "all_categories")

_SERVER_TIMEOUT_S = 30.0
"""Read timeout of downloads; torchvision sets none."""


class TorchvisionSplit(NamedTuple):
    """Split of a torchvision dataset: the dataset's name in `DATASETS`, the absolute folder of its files, its name."""

    name: str
    root: str
    split: str


@dataclass(frozen=True)
class TorchvisionReader:
    """Reader of images by their paths below the folder, or by ``split:number``; opens a dataset once per process.

    If the images are files, the dataset is opened only to download files that this machine lacks.
    """

    splits: tuple[TorchvisionSplit, ...]
    has_files: bool

    def read(self, location: str) -> bytes:
        """Return the bytes of an image, an array as PNG. Raises OSError when it cannot be read."""
        if self.has_files:
            files = FolderReader(self.splits[0].root)
            try:
                return files.read(location)
            except FileNotFoundError:
                for split in self.splits:
                    _open_cached(split)
                return files.read(location)
        name, _, number = location.rpartition(":")
        dataset = _open_cached(self.splits[0]._replace(split=name))
        try:
            return encode_png(np.asarray(dataset[int(number)][0].convert("RGB")))
        except Exception as error:  # Pillow's plugins raise nearly anything on broken files
            raise OSError(summarize(error)) from error


def open_listing(rest: str, options: DatasetOptions) -> DatasetListing:
    """Open a torchvision dataset; the module docstring has the folders of its files."""
    spec_name, requested = name_and_split(rest, options.split)
    name, warnings = _find_dataset(spec_name), ListingWarnings()
    available = tuple(DATASETS[name])
    cache = user_cache_path("semscale") / "torchvision"
    root = os.path.abspath(os.path.expanduser(options.images or os.environ.get("SEMSCALE_TORCHVISION") or cache))
    chosen = choose_split(() if available == ("all",) else available, requested, warnings, f"torchvision:{name}")
    splits = tuple(TorchvisionSplit(name, root, split) for split in available if chosen in (None, split))
    first = _open(splits[0])
    names = _class_names(first)
    has_files = _image_files(first) is not None
    reader = TorchvisionReader(splits, has_files)
    return DatasetListing(name.lower(), reader, _entries(splits, first, has_files), warnings, names)


def _find_dataset(name: str) -> str:
    folded = {known.casefold(): known for known in DATASETS}
    if name.casefold() in folded:
        return folded[name.casefold()]
    near = [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, n=3)]
    what, expected = "torchvision has no such image classification dataset", f"one of {', '.join(DATASETS)}"
    hint = f"did you mean {' or '.join(near)}?" if near else None
    raise DatasetError(what, where=f"torchvision:{name}", expected=expected, hint=hint)


def _open(split: TorchvisionSplit) -> Any:
    """Return the torchvision dataset, downloaded first if its files are missing."""
    dataset_class = getattr(import_package("torchvision.datasets", "torchvision"), split.name)
    arguments = DATASETS[split.name][split.split]
    can_download = split.name not in _WITHOUT_DOWNLOAD
    try:
        if not can_download:
            return dataset_class(split.root, **arguments)
        with _download_lock(split.root):
            try:
                return dataset_class(split.root, download=False, **arguments)
            except (RuntimeError, OSError):
                return dataset_class(split.root, download=True, **arguments)
    except Exception as error:  # broken pickles, MAT files and archives raise nearly anything
        what = "the torchvision dataset cannot be opened" + (" or downloaded" if can_download else "")
        where = f"torchvision:{split.name} in {split.root}"
        hint = "put its files there, or set images: to their folder"
        found = " ".join(str(error).split())[:300]  # torchvision lists the mirrors on lines
        raise DatasetError(what, where=where, found=found, hint=hint) from error


_open_cached = cached_for_readers(2)(_open)


@contextlib.contextmanager
def _download_lock(root: str) -> Iterator[None]:
    """Let one process at a time download into a folder, with a read timeout."""
    os.makedirs(root, exist_ok=True)
    before = socket.getdefaulttimeout()
    # nothing can be downloaded into a read-only folder
    with FileLock(os.path.join(root, ".semscale.lock")) if os.access(root, os.W_OK) else contextlib.nullcontext():
        socket.setdefaulttimeout(_SERVER_TIMEOUT_S)
        try:
            yield
        finally:
            socket.setdefaulttimeout(before)


def _entries(splits: Sequence[TorchvisionSplit], first: Any, has_files: bool) -> Iterator[ListedImage]:
    for split in splits:
        dataset = first if split is splits[0] else _open(split)
        paths = _image_files(dataset) if has_files else None
        for number, label in enumerate(_class_numbers(dataset)):
            text = None if label is None or int(label) < 0 else str(int(label))
            if paths is not None:
                yield ListedImage(os.path.relpath(paths[number], split.root), label=text)
            else:
                yield ListedImage(f"{split.name}/{split.split}/{number:06d}.png", f"{split.split}:{number}", text)


def _attributes(dataset: Any, names: Sequence[str]) -> Iterator[list[Any]]:
    """Yield the named attributes that are lists, or one-dimensional arrays, with an item for each image."""
    for name in names:
        values: Any = getattr(dataset, name, None)
        values = values.tolist() if getattr(values, "ndim", 0) == 1 else values
        if isinstance(values, list) and len(values) == len(dataset) > 0:
            yield values


def _image_files(dataset: Any) -> list[str] | None:
    """Return the path of every image if the dataset exposes them, else None."""
    for values in _attributes(dataset, (*_PAIRS, *_FILES)):
        paths = [value[0] for value in values] if isinstance(values[0], tuple) else values
        if isinstance(paths[0], str | os.PathLike) and any(map(os.path.isfile, paths[:100])):
            return [os.fspath(path) for path in paths]
    return None


def _class_numbers(dataset: Any) -> Iterator[Any]:
    """Return the class of every image; only a dataset without a list of them is read."""
    for values in _attributes(dataset, (*_PAIRS, *_TARGETS)):
        numbers = [value[1] for value in values] if isinstance(values[0], tuple) and len(values[0]) == 2 else values
        if numbers[0] is None or hasattr(numbers[0], "__index__"):
            return iter(numbers)
    return (dataset[index][1] for index in range(len(dataset)))


def _class_names(dataset: Any) -> tuple[str, ...] | None:
    """Return the class names in the dataset's order, the first of several synonyms; None if it has none."""
    for name in _CLASSES:
        names = getattr(dataset, name, None)
        if isinstance(names, list | tuple) and names:
            return tuple(name if isinstance(name, str) else str(name[0]) for name in names)
    index = getattr(dataset, "class_to_idx", None)
    if isinstance(index, Mapping) and sorted(index.values()) == list(range(len(index))):
        return tuple(sorted(index, key=index.__getitem__))
    return None
