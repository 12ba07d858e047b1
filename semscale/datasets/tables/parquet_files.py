"""Parquet files of a dataset: a file, a folder or a glob, and the split that their names tell."""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from semscale.datasets.paths import SPLITS, choose_split
from semscale.datasets.source import Notes
from semscale.datasets.where import location, open_place, plain_reason, stem
from semscale.errors import SemscaleError
from semscale.redact import shown

_ENDING = ".parquet"


class ParquetFiles(NamedTuple):
    """Parquet files of one dataset.

    Attributes:
        name: of the file, or of the folder.
        root: the folder above them, absolute or a URL.
        below: their paths below it, sorted.
    """

    name: str
    root: str
    below: tuple[str, ...]

    def shown(self, file: str) -> str:
        """Return where a file is, for messages."""
        return shown(f"{self.root}/{file}".partition("?")[0])


def find_files(path: str, split: str | None, notes: Notes) -> ParquetFiles:
    """Return the files of a split among those that a path names: itself, those in a folder, or those of a glob.

    Raises:
        SemscaleError: there are none, they cannot be listed, or the split does not exist.
    """
    try:
        name, root, below = _list(location(path))
    except Exception as error:  # the packages behind fsspec raise nearly anything
        raise SemscaleError(
            "the Parquet files cannot be listed", where=shown(path), found=plain_reason(error)
        ) from error
    if not below:
        raise SemscaleError(
            "there is no Parquet file", where=shown(path), expected="a .parquet file, a folder with some, or a glob"
        )
    return ParquetFiles(name, root, choose_files(below, split, notes, shown(path)))


def _list(path: str) -> tuple[str, str, list[str]]:
    fs, inner = open_place(path)
    if path.partition("?")[0].endswith(_ENDING) and fs.isfile(inner):
        root, _, leaf = path.rpartition("/")
        return stem(path), root, [leaf]
    if fs.isdir(inner):
        root, found = path.rstrip("/"), fs.find(inner)
    elif glob.has_magic(path):
        root, found = re.split(r"[*?\[]", path, maxsplit=1)[0].rpartition("/")[0], fs.glob(inner)
    else:
        return stem(path), path, []
    above = open_place(root or "/")[1].rstrip("/") + "/"
    below = sorted(name.removeprefix(above) for name in found if name.endswith(_ENDING))
    return stem(root), root, [name for name in below if not name.startswith(".") and "/." not in name]


def choose_files(files: Sequence[str], split: str | None, notes: Notes, where: str) -> tuple[str, ...]:
    """Return the files of the split to read; all of them if their names tell no splits.

    Raises:
        SemscaleError: the split does not exist.

    >>> choose_files(["data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"], "train", Notes(), "x")
    ('data/train-00000-of-00001.parquet',)
    """
    owners = {file: split_of(file) for file in files}
    available = sorted({name for name in owners.values() if name is not None})
    sure = split is not None or None not in owners.values()
    expected = "files such as train-00000-of-00001.parquet"
    chosen = choose_split(available if sure else (), split, notes, where, expected)
    kept = tuple(file for file in files if chosen in (None, owners[file]))
    numbered = (re.match(r"(.*)-\d+-of-(\d+)", file) for file in kept)
    for (name, total), present in Counter((match[1], int(match[2])) for match in numbered if match).items():
        if present < total:
            notes.say(f"only {present} of the {total} files of {name} are there")
    return kept


def split_of(file: str) -> str | None:
    """Return the split that a file's name or its folder tells.

    >>> split_of("data/train_500-00000-of-00002.parquet"), split_of("default/test/0000.parquet")
    ('train_500', 'test')
    >>> split_of("val.parquet"), split_of("part-0.parquet")
    ('val', None)
    """
    *folders, leaf = file.split("/")
    name = leaf.partition(_ENDING)[0]
    numbered = re.fullmatch(r"(.+?)-\d+-of-\d+(-.*)?", name)
    if numbered:
        return numbered[1]
    words = (re.split(r"[-_.]", name)[0], *reversed(folders))
    return next((word for word in words if word.casefold() in SPLITS), None)
