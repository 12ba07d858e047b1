"""Shards that a pattern names: {000..099}, {a,b}, *, folders, and lists with commas."""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass

from braceexpand import braceexpand

from semscale.datasets.archives.lookup import TAR_ENDINGS
from semscale.datasets.paths import SPLITS, choose_split
from semscale.datasets.source import Notes
from semscale.datasets.where import is_local, location, open_place, plain_reason
from semscale.errors import SemscaleError
from semscale.redact import shown

_ENDING = re.compile(r"\.(tar(\.\w+)?|tgz|tbz2|txz)(\?.*)?$")


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
    for path in _expanded(pattern):
        matches = _matches(path)
        if not matches:
            raise SemscaleError(
                "a shard of the dataset is missing",
                where=shown(pattern),
                found=f"no {shown(path)}",
                expected="a file for each name that the pattern stands for",
            )
        found.update(matches)
    paths = sorted(found)
    if split != "all":
        paths = _of_split(paths, split, notes, shown(pattern))
    root = _shared_folder(paths)
    below = tuple(path.removeprefix(root) for path in paths)
    without_ending = tuple(_ENDING.sub("", path) for path in below)
    stems = tuple(path.rpartition("/")[2] for path in without_ending)
    names = next((tried for tried in (stems, without_ending) if len(set(tried)) == len(below)), below)
    return Shards(root, below, names)


def _expanded(pattern: str) -> list[str]:
    try:  # one more pair of braces splits at the commas between paths, and only there
        return [path for path in braceexpand(f"{{{pattern},}}", escape=False) if path]
    except ValueError:
        raise SemscaleError(
            "a brace of the pattern has no other half", found=shown(pattern), expected="{000..099}"
        ) from None


def _matches(path: str) -> list[str]:
    fs, inner = open_place(path)
    local, plain = is_local(path), path.partition("?")[0]
    if local and os.path.isfile(location(path)):
        return [location(path)]
    is_pattern = glob.has_magic(path if local else plain)
    if not local and not is_pattern and plain.endswith(TAR_ENDINGS):
        return [path]  # whether it exists shows when it is opened, without a request for each shard now
    try:
        found = fs.glob(inner) if is_pattern else fs.find(inner)
    except Exception as error:  # the packages behind fsspec raise nearly anything
        raise SemscaleError("the shards cannot be listed", where=shown(path), found=plain_reason(error)) from None
    tars = [match for match in found if match.partition("?")[0].endswith(TAR_ENDINGS)]
    return tars if local else [fs.unstrip_protocol(match) for match in tars]


def _of_split(paths: list[str], split: str | None, notes: Notes, where: str) -> list[str]:
    root = _shared_folder(paths)
    splits = {path: _split_in(path.removeprefix(root)) for path in paths}
    known = () if None in splits.values() else sorted({name for name in splits.values() if name})
    expected = "names such as train-000.tar or train/000.tar, or a pattern of the split's own shards"
    chosen = choose_split(known, split, notes, where, expected)
    return [path for path in paths if chosen in (None, splits[path])]


def _shared_folder(paths: list[str]) -> str:
    return os.path.commonprefix(paths).rpartition("/")[0] + "/"  # noqa: RUF071


def _split_in(path: str) -> str | None:
    words = re.split(r"[/._-]+", path.casefold())
    return next((word for word in words if word in SPLITS), None)
