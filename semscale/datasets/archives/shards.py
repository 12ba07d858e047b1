"""Shards that a pattern names: {000..099}, {a,b}, *, folders, and lists with commas."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator

from braceexpand import braceexpand

from semscale.datasets.archives.tarred import ENDINGS
from semscale.datasets.base import Notes
from semscale.datasets.class_from_path import SPLITS, choose_split
from semscale.datasets.filesystem import is_local, location, open_filesystem, plain_reason
from semscale.errors import SemscaleError
from semscale.redact import shown

_ENDING = re.compile(r"\.(tar(\.\w+)?|tgz|tbz2|txz)(\?.*)?$")


def find_shards(pattern: str, split: str | None, notes: Notes) -> tuple[str, dict[str, str]]:
    """Return the folder above all shards that a pattern names, with its slash, and path below it -> short unique name.

    A pattern is paths or URLs separated by commas, each with ranges such as {000..099}, alternatives such as
    {train,val}, or ``*``; a folder stands for all tars below it. A split is found in the names ("train-000.tar").
    """
    where = shown(pattern)
    try:  # one more pair of braces splits at the commas between paths, and only there
        expanded = [path for path in braceexpand(f"{{{pattern},}}", escape=False) if path]
    except ValueError:
        raise SemscaleError("a brace of the pattern has no other half", found=where, expected="{000..099}") from None
    paths = sorted({match for path in expanded for match in _matches(path, where)})
    paths = _of_split(paths, split, notes, where)
    root = _shared_folder(paths)
    below = [path.removeprefix(root) for path in paths]
    without_ending = [_ENDING.sub("", path) for path in below]
    stems = [path.rpartition("/")[2] for path in without_ending]
    names = next((tried for tried in (stems, without_ending) if len(set(tried)) == len(below)), below)
    return root, dict(zip(below, names, strict=True))


def _matches(path: str, where: str) -> Iterator[str]:
    fs, inner = open_filesystem(path)
    local, plain = is_local(path), path.partition("?")[0]
    is_pattern = glob.has_magic(path if local else plain)
    if local and os.path.isfile(location(path)):
        yield location(path)
    elif not local and not is_pattern and plain.endswith(ENDINGS):
        yield path  # whether it exists shows when it is opened, without a request for each shard now
    else:
        try:
            found = fs.glob(inner) if is_pattern else fs.find(inner)
        except Exception as error:  # the packages behind fsspec raise nearly anything
            raise SemscaleError("the shards cannot be listed", where=shown(path), found=plain_reason(error)) from None
        tars = [match for match in found if match.partition("?")[0].endswith(ENDINGS)]
        if not tars:
            expected = "a file for each name that the pattern stands for"
            raise SemscaleError(
                "a shard of the dataset is missing", where=where, found=f"no {shown(path)}", expected=expected
            )
        yield from tars if local else map(fs.unstrip_protocol, tars)


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
