"""The shards that a pattern names: {000..099}, {a,b}, *, folders, and lists with commas."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from semscale.datasets.paths import SPLITS, choose_split
from semscale.datasets.source import Notes
from semscale.datasets.where import is_local, location, open_place, plain_reason
from semscale.errors import SemscaleError
from semscale.redact import shown

_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_MOST = 1_000_000
_BRACE = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class Shards:
    """The shards of a dataset, sorted.

    Attributes:
        root: the folder above all of them, with a slash at its end; absolute or a URL.
        below: their paths below it.
        names: for each a short name that no other has.
    """

    root: str
    below: tuple[str, ...]
    names: tuple[str, ...]


def find_shards(pattern: str, split: str | None, notes: Notes) -> Shards:
    """Return the shards that a pattern names.

    Args:
        pattern: paths or URLs separated by commas, each with ranges such as {000..099}, alternatives such as
            {train,val}, or ``*``; a folder stands for all tars below it.
        split: the part to read, where folders or names of the shards tell it ("train-000.tar").
        notes: is told which split was chosen.

    Raises:
        SemscaleError: a shard is missing, nothing fits, a brace is not closed, or there is no such split.
    """
    found: set[str] = set()
    for part in _split_outside_braces(pattern):
        for path in expand_braces(part):
            matches = list(_matches(path))
            if not matches:
                raise SemscaleError(
                    "a shard of the dataset is missing",
                    where=shown(pattern),
                    found=f"no {shown(path)}",
                    expected="a file for each name that the pattern stands for",
                )
            found.update(matches)
            if len(found) > _MOST:
                raise SemscaleError(
                    "too many shards",
                    where=shown(pattern),
                    found=f"more than {_MOST:,}",
                    expected="fewer, larger ones",
                )
    paths = sorted(found)
    if split != "all":
        paths = _of_split(paths, split, notes, shown(pattern))
    root = _folder_above(paths)
    below = tuple(path.removeprefix(root) for path in paths)
    stems = tuple(_stem(path.rpartition("/")[2]) for path in below)
    longer = tuple(_stem(path) for path in below)
    names = next((tried for tried in (stems, longer) if len(set(tried)) == len(below)), below)
    return Shards(root, below, names)


def expand_braces(pattern: str) -> Iterator[str]:
    """Give the names that a pattern with braces stands for, as a shell does; braces inside braces may repeat a name.

    Raises:
        SemscaleError: a brace without its other half, a range that is none, or more than a million names.

    >>> list(expand_braces("{train,val}-{08..10}.tar"))[:4]
    ['train-08.tar', 'train-09.tar', 'train-10.tar', 'val-08.tar']
    """
    match = _BRACE.search(pattern)
    if match is None:
        if "{" in pattern or "}" in pattern:
            raise SemscaleError("a brace of the pattern has no other half", found=shown(pattern), expected="{000..099}")
        yield pattern
        return
    head, tail = pattern[: match.start()], pattern[match.end() :]
    for choice in _choices(match[1], pattern):
        yield from expand_braces(head + choice + tail)


def _choices(text: str, pattern: str) -> Sequence[str]:
    bounds = re.fullmatch(r"(\d+)\.\.(\d+)", text)
    if bounds is None and "," in text:
        return text.split(",")
    first, last = (int(bounds[1][:12]), int(bounds[2][:12])) if bounds else (1, 0)
    if bounds is None or last < first or last - first >= _MOST:
        raise SemscaleError(
            "a range of the pattern cannot be read",
            where=shown(pattern),
            found="{" + text + "}",
            expected=f"{{000..099}} or {{a,b}}, at most {_MOST:,} names",
        )
    return [str(number).zfill(len(bounds[1])) for number in range(first, last + 1)]


def _split_outside_braces(pattern: str) -> list[str]:
    parts, depth = [""], 0
    for letter in pattern:
        depth += (letter == "{") - (letter == "}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in parts if part]


def _matches(path: str) -> Iterator[str]:
    fs, inner = open_place(path)
    local, has_magic = is_local(path), glob.has_magic(path.partition("?")[0] if "://" in path else path)
    if not local and not has_magic and path.partition("?")[0].endswith(_ENDINGS):
        yield path  # whether it is there shows when it is opened, without a request for each shard now
    elif local:
        inner = location(path)
        if os.path.isfile(inner):
            yield inner
        elif os.path.isdir(inner):
            yield from (
                one for one in glob.iglob(f"{glob.escape(inner)}/**/*", recursive=True) if one.endswith(_ENDINGS)
            )
        elif has_magic:
            yield from (one for one in glob.iglob(inner, recursive=True) if os.path.isfile(one))
    else:
        try:
            found = fs.glob(inner) if has_magic else fs.find(inner)
        except Exception as error:  # the packages behind fsspec raise nearly anything
            raise SemscaleError("the shards cannot be listed", where=shown(path), found=plain_reason(error)) from None
        yield from (fs.unstrip_protocol(one) for one in found if one.partition("?")[0].endswith(_ENDINGS))


def _of_split(paths: list[str], split: str | None, notes: Notes, where: str) -> list[str]:
    root = _folder_above(paths)
    splits = {path: _split_in(path.removeprefix(root)) for path in paths}
    known = sorted({name for name in splits.values() if name})
    if None in splits.values() or not known:
        if split is not None:
            raise SemscaleError(
                "the shards' names tell no split",
                where=where,
                found=f"split: {split}",
                expected="names such as train-000.tar or train/000.tar, or a pattern of the split's own shards",
            )
        return paths
    chosen = choose_split(known, split, notes, where)
    return [path for path in paths if splits[path] == chosen]


def _folder_above(paths: list[str]) -> str:
    folders = zip(*(path.split("/")[:-1] for path in paths), strict=False)
    shared = itertools.takewhile(lambda parts: len(set(parts)) == 1, folders)
    return "/".join([*(parts[0] for parts in shared), ""])


def _split_in(path: str) -> str | None:
    words = re.split(r"[/._-]+", path.casefold())
    return next((word for word in words for names in SPLITS.values() if word in names), None)


def _stem(path: str) -> str:
    path = path.partition("?")[0]
    return next(
        (path.removesuffix(ending) for ending in sorted(_ENDINGS, key=len, reverse=True) if path.endswith(ending)), path
    )
