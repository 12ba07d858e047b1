"""From labels as they lie (`garden_roses`, `n01440764`, `3`) to class names that a model can read; the only place."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from semscale.datasets.samples import Int32
from semscale.datasets.source import Notes
from semscale.errors import SemscaleError

ClassMap = Mapping[str, str | None]


def normalise(label: str) -> str:
    """Return a label as a text: Unicode composed, underscores as spaces, spaces single; the case is kept.

    Case is kept because a template may need it and CLIP's tokenizer ignores it; names that differ in nothing else are
    one class, see :func:`name_classes`.

    >>> normalise("garden_roses"), normalise("  Egyptian   cat ")
    ('garden roses', 'Egyptian cat')
    """
    return " ".join(unicodedata.normalize("NFC", label).replace("_", " ").split())


@dataclass(frozen=True)
class Naming:
    """The classes of a dataset, and which label belongs to which.

    Attributes:
        classes: names in a stable order.
        index: int32, per label the index of its class; -1 where the user left the class out.
    """

    classes: tuple[str, ...]
    index: Int32


def name_classes(
    labels: Sequence[str],
    notes: Notes,
    *,
    known: Mapping[str, str] | None = None,
    order: Sequence[str] | None = None,
    given: ClassMap | None = None,
) -> Naming:
    """Name the classes of a dataset.

    Args:
        labels: the different labels of its images.
        notes: is told about two spellings of one class, keys that name no class, and names that say nothing.
        known: label -> name, as the source has it.
        order: the names in the source's own order; otherwise they are sorted, numbers by value.
        given: label or name -> the name that the user wants; None leaves the class out.

    Raises:
        SemscaleError: a label is empty.

    >>> name_classes(["b_1", "10", "9"], Notes(), given={"9": "nine"}).classes
    ('10', 'b 1', 'nine')
    """
    known, given = known or {}, given or {}
    wanted = {normalise(key).casefold(): name for key, name in given.items()}
    used: set[str] = set()

    def name_of(label: str) -> str | None:
        name = normalise(known.get(label, label))
        for key in (normalise(label).casefold(), name.casefold()):
            if key in wanted:
                used.add(key)
                chosen = wanted[key]
                return None if chosen is None else normalise(chosen)
        if not name:
            raise SemscaleError("a class has an empty name", where=repr(label), hint="name it under classes:")
        return name

    names = [name_of(label) for label in labels]
    spelled: dict[str, str] = {}
    # the spelling that sorts first stands, whatever the order in which the images came
    for name in sorted({name for name in names if name is not None}):
        other = spelled.setdefault(name.casefold(), name)
        if other != name:
            notes.add("names that differ only in case are one class", f"{other!r} and {name!r}")
    _note_merged(labels, names, wanted, notes)
    present = set(spelled.values())
    own = [name_of(name) for name in order] if order is not None else []
    first = [spelled.get(name.casefold(), name) for name in own if name is not None]
    if not first:
        first = [spelled[name.casefold()] for name in wanted.values() if name and name.casefold() in spelled]
        first = first if set(first) >= present else []
    classes = tuple(dict.fromkeys([*first, *sorted(present - set(first), key=_natural)]))
    for key in given:
        if normalise(key).casefold() not in used:
            notes.add("keys of classes: name no class", key)
    dull = [name for name in classes if re.fullmatch(r"\d+|n\d{8}", name)]
    if dull:
        notes.say(
            f"{len(dull)} class names say nothing to a model ({', '.join(dull[:5])}{', ...' if len(dull) > 5 else ''});"
            " give them names under classes:"
        )
    position = {name: index for index, name in enumerate(classes)}
    return Naming(
        classes,
        np.array([-1 if name is None else position[spelled[name.casefold()]] for name in names], dtype=np.int32),
    )


def _note_merged(
    labels: Sequence[str], names: Sequence[str | None], wanted: Mapping[str, str | None], notes: Notes
) -> None:
    """Name labels that became one class by normalising alone; what the user merged is no news."""
    first: dict[str, str] = {}
    for label, name in zip(labels, names, strict=True):
        if name is None or normalise(label).casefold() in wanted:
            continue
        other = first.setdefault(name, label)
        if other != label:
            notes.add("labels are two spellings of one class", f"{other!r} and {label!r}")


def _natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    parts = re.split(r"(\d+)", name.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part], name


def read_class_map(given: ClassMap | Sequence[str] | str | None) -> tuple[dict[str, str | None], list[str] | None]:
    """Return the user's class names as a map, and their order where it is stated.

    They are a mapping, or a list for the labels 0, 1, 2, ... (all of which are then classes, with images or without),
    or a file with either: YAML, JSON, or ``.txt`` with a name per line.

    Raises:
        SemscaleError: the file is missing or holds something else.
    """
    if given is None:
        return {}, None
    if isinstance(given, str):
        given = _read_file(Path(given).expanduser())
    if isinstance(given, Mapping):
        return {str(key): None if name is None else str(name) for key, name in given.items()}, None
    return {str(number): str(name) for number, name in enumerate(given)}, list(given)


def _read_file(path: Path) -> ClassMap | Sequence[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".txt":
            return [line.strip() for line in text.splitlines() if line.strip()]
        found = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, ValueError, yaml.YAMLError) as error:
        raise SemscaleError("the file with class names cannot be read", where=str(path), found=str(error)) from error
    plain = (str, int, float, type(None))
    if isinstance(found, dict) and all(isinstance(name, plain) for name in found.values()):
        return {str(key): name if name is None else str(name) for key, name in found.items()}
    if isinstance(found, list) and all(isinstance(name, plain) and name is not None for name in found):
        return [str(name) for name in found]
    raise SemscaleError(
        "the file with class names holds something else",
        where=str(path),
        found=type(found).__name__,
        expected="a mapping of labels to names, or a list of names for the labels 0, 1, 2, ...",
    )
