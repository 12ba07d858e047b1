"""The Parquet files of a dataset: a file, a folder or a glob, and the split that their names tell."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from semscale.datasets.paths import SPLITS, choose_split
from semscale.datasets.source import Notes
from semscale.datasets.where import location, open_place, plain_reason
from semscale.errors import SemscaleError
from semscale.redact import shown

_ENDING = ".parquet"
_KNOWN = {name for group in SPLITS.values() for name in group}
_MAGIC = re.compile(r"[*?\[]")


class Files(NamedTuple):
    """Parquet files of one dataset.

    Attributes:
        root: the folder they lie in, absolute or a URL.
        below: their paths below it, sorted.
    """

    root: str
    below: tuple[str, ...]


def find_files(path: str) -> Files:
    """Return the Parquet files that a path names: itself, those below a folder, or those that a glob fits.

    Raises:
        SemscaleError: there are none.
    """
    where = shown(path)
    try:
        return _find(location(path), where)
    except SemscaleError:
        raise
    except Exception as error:  # the packages behind fsspec raise nearly anything
        raise SemscaleError("the Parquet files cannot be listed", where=where, found=plain_reason(error)) from error


def _find(path: str, where: str) -> Files:
    fs, inner = open_place(path)
    if path.partition("?")[0].endswith(_ENDING) and fs.isfile(inner):
        root, _, leaf = path.rpartition("/")
        return Files(root, (leaf,))
    if fs.isdir(inner):
        root = path.rstrip("/")
        found = fs.find(inner)
    elif _MAGIC.search(path):
        root = _MAGIC.split(path, maxsplit=1)[0].rpartition("/")[0]
        found = fs.glob(inner)
    else:
        _none(where)
    above = open_place(root or "/")[1].rstrip("/") + "/"
    below = sorted(name.removeprefix(above) for name in found if name.endswith(_ENDING))
    seen = tuple(name for name in below if not name.startswith(".") and "/." not in name)
    return Files(root, seen) if seen else _none(where)


def _none(where: str) -> NoReturn:
    raise SemscaleError(
        "there is no Parquet file", where=where, expected="a .parquet file, a folder with some, or a glob"
    )


def choose_files(files: Sequence[str], split: str | None, notes: Notes, where: str) -> tuple[str, ...]:
    """Return the files of the split to read; all of them if their names tell no splits.

    Raises:
        SemscaleError: the wanted split is not there.

    >>> choose_files(["data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"], "train", Notes(), "x")
    ('data/train-00000-of-00001.parquet',)
    """
    owners = {file: split_of(file) for file in files}
    available = sorted({name for name in owners.values() if name is not None})
    chosen: str | None = None
    if split != "all" and available and (split is not None or None not in owners.values()):
        chosen = choose_split(available, split, notes, where)
    elif split not in (None, "all"):
        raise SemscaleError(
            "the dataset has no splits",
            where=where,
            found=f"split: {split}",
            expected="files such as train-00000-of-00001.parquet",
        )
    kept = tuple(file for file in files if chosen is None or owners[file] == chosen)
    _note_absent(kept, notes)
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
    for part in (re.split(r"[-_.]", name)[0], *reversed(folders)):
        if part.casefold() in _KNOWN:
            return part
    return None


def _note_absent(files: Sequence[str], notes: Notes) -> None:
    numbered = (re.match(r"(.*)-\d+-of-(\d+)", file) for file in files)
    counts = Counter((match[1], int(match[2])) for match in numbered if match)
    for (name, total), count in counts.items():
        if count < total:
            notes.say(f"only {count} of the {total} files of {name} are there")
