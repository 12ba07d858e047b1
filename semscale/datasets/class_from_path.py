"""Class labels from paths: by a rule for file names, or by folder, with split folders above as in ImageFolder."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from semscale.common.errors import DatasetError
from semscale.datasets.dataset import ListingWarnings

LabelOf = Callable[[str], str | None]

OTHER_SPLIT = "\0"
"""Label of an image that belongs to a split which is not read."""

SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
          "test": "test", "testing": "test"}  # fmt: skip
"""Name of a split in folders and options -> canonical name."""

_SPLIT = re.compile(rf"(?<![a-z])({'|'.join(sorted(SPLITS, key=len, reverse=True))})(?![a-z])")


def choose_split(
    available: Sequence[str] | Mapping[str, str],
    requested: str | None,
    warnings: ListingWarnings,
    where: str,
    expected: str = "no split",
) -> str | None:
    """Return the split to read: the requested one, else test, val, or the first; None for all, or if none exists.

    A mapping has their canonical names as values. `expected` describes the splits of this kind of dataset.
    """
    if requested == "all" or (requested is None and not available):
        return None
    if not available:
        raise DatasetError("the dataset has no splits", where=where, found=f"split: {requested}", expected=expected)
    canonical = {name: SPLITS.get(name.casefold(), name) for name in available}
    canonical = dict(available) if isinstance(available, Mapping) else canonical
    if requested is not None:
        for name in available:
            if requested == name or requested.casefold() in (name.casefold(), canonical[name]):
                return name
        raise DatasetError("the dataset has no such split", where=where, found=requested, expected=", ".join(available))
    preferred = (name for key in ("test", "val") for name in available if canonical[name] == key)
    chosen = next(preferred, next(iter(available)))
    if len(available) > 1:
        warnings.add_line(f"of the splits {', '.join(available)} only {chosen!r} is read; split: chooses another")
    return chosen


def find_splits(names: Iterable[str]) -> dict[str, str]:
    """Return the sibling folders that are splits, and their canonical names.

    A single name may be a class ("train" among vehicles); names that differ only in the split are splits.

    >>> find_splits(["seg_train", "seg_test", "docs"]), find_splits(["train", "car"]), find_splits(["train"])
    ({'seg_train': 'train', 'seg_test': 'test'}, {}, {'train': 'train'})
    """
    groups: dict[str, dict[str, str]] = {}  # name with the split replaced by * -> folders
    names = list(names)
    for name in names:
        if match := _SPLIT.search(folded := name.casefold()):
            pattern = f"{folded[: match.start()]}*{folded[match.end() :]}"
            groups.setdefault(pattern, {})[name] = SPLITS[match[0]]
    split_groups = [group for group in groups.values() if len(set(group.values())) > 1]
    if all(name.casefold() in SPLITS for name in names):
        split_groups += groups.values()
    return {name: canonical for group in split_groups for name, canonical in group.items()}


def compile_rule(class_from: str) -> LabelOf:
    """Return the function that extracts the class from a path.

    A rule is a template such as ``{class}_{number}.jpg``, in which ``{class}`` and other names match any text,
    ``{number}`` digits, and ``*`` anything; it must match the whole file name, and as many folders as it has slashes.
    Or it is a regular expression with a group ``(?P<class>...)``, searched in the whole path. Case is ignored.

    >>> rule = compile_rule("{class}_{number}.jpg")
    >>> rule("flowers/garden_roses_00012.jpg"), rule("notes.txt")
    ('garden_roses', None)
    >>> compile_rule(r"(?P<class>[a-z]+)\\d*/[^/]+$")("x/cat12/1.png")
    'cat'
    """
    whole = "(?P<class>" in class_from
    if not whole and "{class}" not in class_from:
        what = "the rule for the class does not mark the class"
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
        # greedy: in water_lily_12.jpg the class ends at the last underscore
        return f"(?P<{name}>{'[0-9]+' if name == 'number' else '[^/]+'})"

    return "^" + re.sub(r"\{(\w+)\}|.", expression, text, flags=re.DOTALL) + "$"


def rule_labels(class_from: str, split: str | None) -> LabelOf:
    """Return the function that extracts the class by a rule, with a split only below a folder of that name."""
    rule = compile_rule(class_from)
    if split is None or split == "all":
        return rule
    synonyms = {name for name, canonical in SPLITS.items() if canonical == SPLITS.get(split.casefold())}
    synonyms.add(split.casefold())

    def label_of(path: str) -> str | None:
        return rule(path) if synonyms.intersection(path.casefold().split("/")[:-1]) else OTHER_SPLIT

    return label_of


def folder_labels(
    paths: Callable[[], Iterable[str]], split: str | None, warnings: ListingWarnings, where: str, *, strip: bool = False
) -> LabelOf:
    """Return the function that takes the class from the folder below those of the splits.

    `paths` returns a new iterator over all paths; with `strip` folders that all share are ignored.
    """
    depth = 0
    if strip:  # the first and the last path in alphabetical order share what all share
        ends = [min(paths(), default=""), max(paths(), default="")]
        depth = os.path.commonprefix(ends).count("/")  # noqa: RUF071
    tops = {top for path in paths() for top in path.split("/")[depth:-1][:1]}
    splits = find_splits(tops)
    if splits and len(splits) < len(tops) and split in (None, "all"):
        others = sorted(tops - set(splits))
        found = f"{', '.join(sorted(splits))} beside {', '.join(others[:5])}{', ...' if len(others) > 5 else ''}"
        hint = f"choose one, such as split: {min(splits)}, or set class_from: to the position of the class"
        raise DatasetError("some folders are splits and would be classes", where=where, found=found, hint=hint)
    expected = "folders such as train, val and test above the folders of the classes"
    chosen = choose_split(
        {top: splits.get(top, top) for top in sorted({*splits, *tops & {split}})}, split, warnings, where, expected
    )
    depth += bool(splits) or chosen is not None
    folders_of = (path.split("/")[:-1] for path in paths() if chosen is not None)
    inside = {"/".join(folders[depth : depth + 1]) for folders in folders_of if folders[depth - 1 : depth] == [chosen]}
    inner = depth + (inside == {chosen})  # some archives are packed as test_set/test_set/cats

    def label_of(path: str) -> str | None:
        folders = path.split("/")[:-1]
        if chosen is not None and folders[depth - 1 : depth] != [chosen]:
            return None if len(folders) < depth else OTHER_SPLIT
        return folders[inner] if len(folders) > inner else None

    return label_of
