"""Class names for the text encoder, from labels such as `garden_roses`, `n01440764` or `3`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from semscale.common.errors import DatasetError
from semscale.common.files import read_regular_file
from semscale.common.parsing import parse_json, read_yaml
from semscale.common.text import counted, text_key
from semscale.datasets.dataset import ListingWarnings
from semscale.datasets.samples import Int32

ClassMap = Mapping[str, str | None]

_MAX_FILE_BYTES = 8 * 2**20


def readable(label: str) -> str:
    """Return a label as text: Unicode composed (NFC), underscores as spaces, spaces collapsed."""
    return " ".join(unicodedata.normalize("NFC", label).replace("_", " ").split())


def name_classes(
    labels: Sequence[str],
    warnings: ListingWarnings,
    *,
    stated: ClassMap | None = None,
    order: Sequence[str] | None = None,
    class_map: ClassMap | None = None,
) -> tuple[tuple[str, ...], Int32]:
    """Return the classes of a dataset in a stable order, and int32[labels], the index of each label's class; -1: none.

    Args:
        labels: the distinct labels of the images.
        warnings: receives warnings about them.
        stated: label -> name in the source.
        order: the names in the source's order; by default they are sorted, numbers by value.
        class_map: label or name -> the user's name; None leaves the class out.

    >>> name_classes(["b_1", "10", "9"], ListingWarnings(), class_map={"9": "nine"})[0]
    ('10', 'b 1', 'nine')
    """
    stated, class_map = stated or {}, class_map or {}
    renamed = {text_key(key): name for key, name in class_map.items()}
    used: set[str] = set()

    def name_of(label: str) -> str | None:
        name = readable(stated.get(label) or label)
        for key in (text_key(label), text_key(name)):
            if key in renamed:
                used.add(key)
                new_name = renamed[key]
                return None if new_name is None else readable(new_name)
        if not name:
            raise DatasetError("a class has an empty name", where=repr(label), hint="name it under classes:")
        return name

    names = [name_of(label) for label in labels]
    spelled: dict[str, str] = {}  # lower case -> the spelling that sorts first, independent of the images' order
    for spelling in sorted({name for name in names if name is not None}):
        other = spelled.setdefault(spelling.lower(), spelling)
        if other != spelling:
            warnings.add("pairs of names differ only in case and are one class", f"{other!r} and {spelling!r}")
    first: dict[str, str] = {}
    for label, name in zip(labels, names, strict=True):
        if name is not None and text_key(label) not in renamed and (other := first.setdefault(name, label)) != label:
            warnings.add("pairs of labels are one class, in two spellings", f"{other!r} and {label!r}")
    present = set(spelled.values())
    ordered = [spelled.get(name.lower(), name) for name in map(name_of, order or ()) if name is not None]
    if not ordered:
        ordered = [spelled[name.lower()] for name in renamed.values() if name and name.lower() in spelled]
        ordered = ordered if set(ordered) >= present else []
    classes = tuple(dict.fromkeys([*ordered, *sorted(present - set(ordered), key=_natural)]))
    for key in class_map:
        if text_key(key) not in used:
            warnings.add("keys of classes: are unused", key)
    codes = [name for name in classes if re.fullmatch(r"\d+|n\d{8}", name)]
    if codes:
        shown = ", ".join([*codes[:5], "..."] if len(codes) > 5 else codes)
        names_are = counted(len(codes), "class names are")
        warnings.add_line(f"{names_are} meaningless to a model ({shown}); rename them under classes:")
    index = {name: number for number, name in enumerate(classes)}
    class_of_label = [-1 if name is None else index[spelled[name.lower()]] for name in names]
    return classes, np.array(class_of_label, dtype=np.int32)


def _natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    parts = re.split(r"(\d+)", name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part], name


def read_class_map(option: ClassMap | Sequence[str] | str | None) -> tuple[dict[str, str | None], list[str] | None]:
    """Return the user's class names as a map, and their order if they are a list.

    The option is a mapping, or a list for the labels 0, 1, 2, ... (all of which are then classes, with images or
    without), or a file with either: YAML, JSON, or ``.txt`` with a name per line.
    """
    if option is None:
        return {}, None
    if isinstance(option, str):
        option = _read_file(Path(option).expanduser())
    if isinstance(option, Mapping):
        return {str(key): None if name is None else str(name) for key, name in option.items()}, None
    names = list(map(str, option))
    return {str(number): name for number, name in enumerate(names)}, names


def _read_file(path: Path) -> ClassMap | Sequence[str]:
    where = str(path)
    try:
        text = read_regular_file(path, _MAX_FILE_BYTES).decode("utf-8-sig")
        if path.suffix == ".txt":
            return [line.strip() for line in text.splitlines() if line.strip()]
        # numbers are names as written, in both formats
        if path.suffix == ".json":
            content = parse_json(text, parse_int=str, parse_float=str, parse_constant=str)
        else:
            read = read_yaml(text, where, "the file with class names", plain=False)
            content = read.value
            if read.issues:
                key, message = read.issues[0]
                raise ValueError(f"{'.'.join(map(str, key))}: {message}")
    except (OSError, ValueError) as error:
        raise DatasetError("the file with class names cannot be read", where=where, found=str(error)) from error
    names = [name for name in content.values() if name is not None] if isinstance(content, dict) else content
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return content  # type: ignore[no-any-return]
    what, found = "the file with class names has the wrong form", type(content).__name__
    expected = "a mapping of labels to names, or a list of names for the labels 0, 1, 2, ..."
    raise DatasetError(what, where=where, found=found, expected=expected)
