"""Class from the path: by a rule for file names, or by the folder, with nested splits as ImageFolder users have."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from semscale.common.errors import DatasetError
from semscale.datasets.base import Notes

LabelOf = Callable[[str], str | None]

OTHER_SPLIT = "\0"
"""What a rule answers for an image that belongs to a split which is not read."""

SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
          "test": "test", "testing": "test"}  # fmt: skip
"""Name of a split, as folders and options have it -> the usual one."""

_SPLIT = re.compile(rf"(?<![a-z])({'|'.join(sorted(SPLITS, key=len, reverse=True))})(?![a-z])")


def choose_split(
    available: Sequence[str] | Mapping[str, str],
    wanted: str | None,
    notes: Notes,
    where: str,
    expected: str = "no split",
) -> str | None:
    """Return the split to read: the wanted one, or else test, val, or the first; None for all, or where there is none.

    A mapping has their usual names as well. `expected` says how a dataset of this kind would have splits.
    """
    if wanted == "all" or (wanted is None and not available):
        return None
    if not available:
        raise DatasetError("the dataset has no splits", where=where, found=f"split: {wanted}", expected=expected)
    usual = (
        available if isinstance(available, Mapping) else {name: SPLITS.get(name.casefold(), name) for name in available}
    )
    if wanted is not None:
        for name in available:
            if wanted == name or wanted.casefold() in (name.casefold(), usual[name]):
                return name
        raise DatasetError("the dataset has no such split", where=where, found=wanted, expected=", ".join(available))
    chosen = next((name for key in ("test", "val") for name in available if usual[name] == key), next(iter(available)))
    if len(available) > 1:
        notes.say(f"of the splits {', '.join(available)} only {chosen!r} is read; split: chooses another")
    return chosen


def find_splits(names: Iterable[str]) -> dict[str, str]:
    """Return the folders beside each other that are splits, and their usual names.

    One name alone may be that of a class, such as a train; two that differ in the split only are none.

    >>> find_splits(["seg_train", "seg_test", "docs"]), find_splits(["train", "car"]), find_splits(["train"])
    ({'seg_train': 'train', 'seg_test': 'test'}, {}, {'train': 'train'})
    """
    groups: dict[str, dict[str, str]] = {}  # what stands around the word for the split -> folders
    names = list(names)
    for name in names:
        if match := _SPLIT.search(folded := name.casefold()):
            around = f"{folded[: match.start()]}*{folded[match.end() :]}"
            groups.setdefault(around, {})[name] = SPLITS[match[0]]
    found = [group for group in groups.values() if len(set(group.values())) > 1]
    if all(name.casefold() in SPLITS for name in names):
        found += groups.values()
    return {name: usual for group in found for name, usual in group.items()}


def compile_rule(class_from: str) -> LabelOf:
    """Return the function that finds the class in a path.

    A rule is a template such as ``{class}_{number}.jpg``, in which ``{class}`` and other names stand for any text,
    ``{number}`` for digits, and ``*`` for anything; it must fit the whole file name, or as many folders as it has
    slashes. Or it is a regular expression with a group ``(?P<class>...)``, searched in the whole path. Upper and lower
    case are the same.

    >>> rule = compile_rule("{class}_{number}.jpg")
    >>> rule("flowers/garden_roses_00012.jpg"), rule("notes.txt")
    ('garden_roses', None)
    >>> compile_rule(r"(?P<class>[a-z]+)\\d*/[^/]+$")("x/cat12/1.png")
    'cat'
    """
    whole = "(?P<class>" in class_from
    if not whole and "{class}" not in class_from:
        what = "a rule for the class must say where the class stands"
        expected = "{class} in a template such as {class}_{number}.jpg, or (?P<class>...) in an expression"
        raise DatasetError(what, where="class_from", found=class_from, expected=expected)
    try:
        compiled = re.compile(class_from if whole else _template(class_from), re.IGNORECASE)
    except re.error as error:
        what, found = "the rule for the class is not a regular expression", f"{class_from}: {error}"
        raise DatasetError(what, where="class_from", found=found) from error
    slashes = class_from.count("/")

    def label_of(path: str) -> str | None:
        match = compiled.search(path if whole else "/".join(path.split("/")[-1 - slashes :]))
        return (match["class"] or None) if match else None

    return label_of


def _template(text: str) -> str:
    groups: set[str] = set()

    def expression(part: re.Match[str]) -> str:
        name = part[1]
        if name is None:
            return "[^/]*" if part[0] == "*" else re.escape(part[0])
        if name in groups:
            return f"(?P={name})"
        groups.add(name)
        # greedy: in water_lily_12.jpg the last underscore ends the class
        return f"(?P<{name}>{'[0-9]+' if name == 'number' else '[^/]+'})"

    return "^" + re.sub(r"\{(\w+)\}|.", expression, text, flags=re.DOTALL) + "$"


def rule_labels(class_from: str, split: str | None) -> LabelOf:
    """Return the function that finds the class by a rule; with a split only below a folder of that name."""
    rule = compile_rule(class_from)
    if split is None or split == "all":
        return rule
    wanted = {split.casefold(), *(name for name, usual in SPLITS.items() if usual == SPLITS.get(split.casefold()))}

    def label_of(path: str) -> str | None:
        return rule(path) if wanted.intersection(path.casefold().split("/")[:-1]) else OTHER_SPLIT

    return label_of


def folder_labels(
    paths: Callable[[], Iterable[str]], split: str | None, notes: Notes, where: str, *, peel: bool = False
) -> LabelOf:
    """Return the function that finds the class in the folders of a path, below those of the splits.

    `paths` gives all paths, each time anew; with `peel` the folders that all of them share are left out.
    """
    depth = 0
    if peel:  # what the first and the last share in alphabetical order, all share
        ends = [min(paths(), default=""), max(paths(), default="")]
        depth = os.path.commonprefix(ends).count("/")  # noqa: RUF071
    tops = {top for path in paths() for top in path.split("/")[depth:-1][:1]}
    splits = find_splits(tops)
    if splits and len(splits) < len(tops) and split in (None, "all"):
        others = sorted(tops - set(splits))
        found = f"{', '.join(sorted(splits))} beside {', '.join(others[:5])}{', ...' if len(others) > 5 else ''}"
        hint = f"choose one, such as split: {min(splits)}, or say by class_from: where the class stands"
        raise DatasetError("some folders are splits, and would be classes", where=where, found=found, hint=hint)
    expected = "folders such as train, val and test above the folders of the classes"
    chosen = choose_split(
        {top: splits.get(top, top) for top in sorted({*splits, *tops & {split}})}, split, notes, where, expected
    )
    depth += bool(splits) or chosen is not None
    folders_of = (path.split("/")[:-1] for path in paths() if chosen is not None)
    inside = {"/".join(folders[depth : depth + 1]) for folders in folders_of if folders[depth - 1 : depth] == [chosen]}
    inner = depth + (inside == {chosen})  # test_set/test_set/cats, as some archives are packed

    def label_of(path: str) -> str | None:
        folders = path.split("/")[:-1]
        if chosen is not None and folders[depth - 1 : depth] != [chosen]:
            return None if len(folders) < depth else OTHER_SPLIT
        return folders[inner] if len(folders) > inner else None

    return label_of
