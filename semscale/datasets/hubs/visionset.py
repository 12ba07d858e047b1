"""Opening a class of ``torchvision.datasets``, and finding in it what torchvision has under many names."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from semscale.datasets.hubs.named import missing_package, short
from semscale.errors import SemscaleError

_PATIENCE_S = 30.0
"""How long a server that stopped sending may be silent; torchvision itself sets no limit."""

# known to have no single class per image; said before they download gigabytes. Others are judged by their first item.
_OTHERS = {
    "CelebA", "Cityscapes", "Kitti", "LFWPairs", "MovingMNIST", "SBDataset", "SBU", "VOCDetection", "VOCSegmentation",
    "VisionDataset", "WIDERFace",
}  # fmt: skip
_OTHER_KINDS = {"FlowDataset", "StereoMatchingDataset"}

_PAIRS = ("samples", "imgs", "_samples")
_FILES = ("_image_files", "_images", "data")
_TARGETS = ("targets", "_labels", "labels", "y")
_CLASSES = ("classes", "categories", "all_categories")


@dataclass(frozen=True)
class Part:
    """A split of a torchvision set: enough to open it again on another machine.

    Attributes:
        name: the class of ``torchvision.datasets``.
        root: the folder of its files, absolute.
        arguments: names and values that the constructor takes for this split.
    """

    name: str
    root: str
    arguments: tuple[tuple[str, Any], ...] = ()


def find_set(name: str) -> str:
    """Return the name of the torchvision class, whatever the case.

    Raises:
        SemscaleError: torchvision is missing or has no such class, or the class cannot be an image classification set
            since it needs more than a folder.
    """
    module = _library()
    known: dict[str, str] = {one.casefold(): one for one in module.__all__ if inspect.isclass(getattr(module, one))}
    found = known.get(name.casefold())
    if found is None:
        near = [known[one] for one in difflib.get_close_matches(name.casefold(), known, n=3)]
        raise SemscaleError(
            "torchvision has no such dataset",
            where=f"torchvision:{name}",
            expected="a class of torchvision.datasets, such as CIFAR10 or Flowers102",
            hint=f"did you mean {' or '.join(near)}?" if near else None,
        )
    if found in _OTHERS or _OTHER_KINDS & {base.__name__ for base in getattr(module, found).__mro__}:
        raise _no_classes(found, "its images have no single class")
    parameters = _parameters(getattr(module, found))
    needed = [one for one, parameter in parameters.items() if parameter.default is inspect.Parameter.empty]
    if "root" not in parameters or set(needed) - {"root", "split"}:
        raise _no_classes(found, f"it takes {', '.join(needed) or 'no folder'}")
    return found


def find_parts(name: str, root: str) -> dict[str, Part]:
    """Return the splits that a set's constructor accepts, by their names; ``all`` stands for a set without splits."""
    dataset_class = getattr(_library(), name)
    parameters = _parameters(dataset_class)
    choices: dict[str, tuple[tuple[str, Any], ...]] = {"": ()}
    for argument in ("split", "image_set", "version"):
        if argument in parameters:
            choices = {value: ((argument, value),) for value in _values(dataset_class, root, argument)} or choices
            break
    if "train" in parameters:
        halves = {"train": True, "test": False}
        choices = {
            f"{choice}-{half}" if choice else half: (*arguments, ("train", value))
            for choice, arguments in choices.items()
            for half, value in halves.items()
        }
    return {choice or "all": Part(name, root, arguments) for choice, arguments in choices.items()}


def open_part(part: Part) -> Any:
    """Return the torchvision dataset, downloaded first if its files are not there.

    Raises:
        SemscaleError: there are no files and they cannot be downloaded, or what is there is broken.
    """
    dataset_class = getattr(_library(), part.name)
    can_download = "download" in _parameters(dataset_class)
    arguments = dict(part.arguments)
    try:
        with _alone(part.root) if can_download else contextlib.nullcontext():
            if not can_download:
                return dataset_class(part.root, **arguments)
            try:
                return dataset_class(part.root, download=False, **arguments)
            except (RuntimeError, OSError):
                return dataset_class(part.root, download=True, **arguments)
    except Exception as error:  # broken pickles, MAT files and archives raise nearly anything
        raise SemscaleError(
            "the torchvision dataset cannot be opened" + (" or downloaded" if can_download else ""),
            where=f"torchvision:{part.name} in {part.root}",
            found=short(error),
            hint="put its files there, or name their folder under images:",
        ) from error


def check_classification(dataset: Any, name: str) -> None:
    """Look at the first image.

    Raises:
        SemscaleError: the dataset does not pair an image with one class.
    """
    from PIL import Image

    try:
        first = dataset[0] if len(dataset) else None
    except Exception:  # a broken image; the quarantine will say so
        return
    if first is None:
        return
    if not (isinstance(first, tuple) and len(first) == 2 and isinstance(first[0], Image.Image)):
        raise _no_classes(name, "its items are no pairs of an image and a class")
    if first[1] is not None and not _is_whole(first[1]):
        raise _no_classes(name, f"its images have {type(first[1]).__name__} instead of a class")


def image_files(dataset: Any) -> list[str] | None:
    """Return the path of every image where the dataset publishes them, else None."""
    for names in (_PAIRS, _FILES):
        for name in names:
            found = getattr(dataset, name, None)
            if not isinstance(found, list) or not found or len(found) != len(dataset):
                continue
            paths = [one[0] for one in found] if names is _PAIRS and isinstance(found[0], tuple) else found
            if isinstance(paths[0], (str, os.PathLike)) and any(os.path.isfile(one) for one in islice(paths, 100)):
                return [os.fspath(one) for one in paths]
    return None


def class_numbers(dataset: Any) -> Iterator[int | None]:
    """Give the class of every image; only a dataset that keeps no list of them is read for it."""
    for number in _numbers(dataset):
        yield None if number is None or int(number) < 0 else int(number)


def class_names(dataset: Any) -> tuple[str, ...] | None:
    """Return the class names in the dataset's order, the first of several synonyms; None where it has none."""
    for name in _CLASSES:
        found = getattr(dataset, name, None)
        if isinstance(found, (list, tuple)) and found:
            return tuple(one if isinstance(one, str) else str(one[0]) for one in found)
    index = getattr(dataset, "class_to_idx", None)
    if isinstance(index, Mapping) and sorted(index.values()) == list(range(len(index))):
        return tuple(sorted(index, key=index.__getitem__))
    return None


def _library() -> Any:
    try:
        import torchvision.datasets
    except ImportError as error:
        raise missing_package("torchvision", "torchvision", error) from error
    return torchvision.datasets


def _parameters(dataset_class: type) -> dict[str, inspect.Parameter]:
    """Return what a constructor takes, with what it hands on to the constructors of its bases."""
    found: dict[str, inspect.Parameter] = {}
    for base in dataset_class.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
        named = [one for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
        for one in named:
            found.setdefault(one.name, one)
        if len(named) == len(parameters):
            break
    return found


def _values(dataset_class: Any, root: str, argument: str) -> list[str]:
    """Return what an argument can be, as torchvision says when it is given something else."""
    try:
        dataset_class(root, **{argument: "?"})
    except ValueError as error:
        valid = re.search(r"valid values are (.*)", str(error), re.IGNORECASE | re.DOTALL)
        return re.findall(r"'([^']+)'", valid[1]) if valid else []
    except Exception:  # looks at its files first; it keeps its own default
        return []
    return []


@contextlib.contextmanager
def _alone(root: str) -> Iterator[None]:
    """Let one process of all that see the folder download, and give up on a silent server."""
    from filelock import FileLock

    before = socket.getdefaulttimeout()
    try:
        os.makedirs(root, exist_ok=True)
        lock: Any = FileLock(os.path.join(root, ".semscale.lock")) if os.access(root, os.W_OK) else None
    except OSError:
        lock = None  # a read-only folder; nothing can be downloaded there either
    with lock or contextlib.nullcontext():
        socket.setdefaulttimeout(_PATIENCE_S)
        try:
            yield
        finally:
            socket.setdefaulttimeout(before)


def _numbers(dataset: Any) -> Iterator[Any]:
    for name in _PAIRS:
        found: Any = getattr(dataset, name, None)
        if _fits(found, dataset) and isinstance(found[0], tuple) and len(found[0]) == 2:
            yield from (one[1] for one in found)
            return
    for name in _TARGETS:
        found = getattr(dataset, name, None)
        if not isinstance(found, list) and hasattr(found, "tolist"):
            found = found.tolist()
        if _fits(found, dataset) and (found[0] is None or _is_whole(found[0])):
            yield from found
            return
    yield from (dataset[index][1] for index in range(len(dataset)))


def _fits(found: Any, dataset: Any) -> bool:
    return isinstance(found, Sequence) and len(found) == len(dataset) > 0


def _is_whole(value: Any) -> bool:
    return hasattr(value, "__index__") and getattr(value, "ndim", 0) == 0


def _no_classes(name: str, found: str) -> SemscaleError:
    return SemscaleError(
        "the torchvision dataset is no image classification set",
        where=f"torchvision:{name}",
        found=found,
        expected="a set with one class per image, such as CIFAR10, Flowers102 or ImageFolder",
    )
