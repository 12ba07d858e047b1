"""Images in folders, on a disk or anywhere that fsspec reaches; the path tells the class."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote

from semscale.common.errors import DatasetError, SemscaleError
from semscale.common.files import read_regular
from semscale.common.filesystem import (
    MAX_FILE_BYTES,
    REMOTE_READS,
    is_hidden,
    is_local,
    is_missing,
    may_pass,
    open_filesystem,
    plain_reason,
    read_whole,
    stem,
)
from semscale.common.redact import shown
from semscale.datasets.base import Entry, Notes, Options, Source, takes


class FolderReader(NamedTuple):
    """Reads images below an absolute folder or URL that every worker can reach; `parallel` reads at once pay."""

    root: str
    parallel: int = 1

    def read(self, place: str) -> bytes:
        """Return the bytes of an image given by its path below the root."""
        if "://" in self.root:
            return read_whole(f"{self.root.rstrip('/')}/{place}")
        return read_regular(os.path.join(self.root, place), MAX_FILE_BYTES)  # a third of what fsspec takes


def open_source(path: str, options: Options) -> Source:
    """Open a folder: ``<root>/<class>/...``, ``<root>/<split>/<class>/...``, or any with a rule for the class."""
    notes = Notes()
    fs, root = open_filesystem(path)
    if not is_local(path):
        entries = _list_remote(fs, root.rstrip("/"), path, notes)
        return Source(stem(path), FolderReader(path, REMOTE_READS), entries, notes, by_path=True)
    root = os.path.abspath(root)
    if not os.path.isdir(root):
        raise _missing(root)
    return Source(os.path.basename(root), FolderReader(root), _list_local(root, notes), notes, by_path=True)


def _list_local(root: str, notes: Notes) -> Iterator[Entry]:
    """List folder by folder, each in sorted order; links to folders are followed, but not in circles."""
    seen = {os.path.realpath(root)}

    def unreadable(error: OSError) -> None:
        if may_pass(error):  # without these images every table would be another one
            what, hint = "the dataset's folder cannot be listed at the moment", "give the same command again"
            raise DatasetError(what, where=str(error.filename), found=error.strerror, hint=hint) from error
        notes.add("folders cannot be read", f"{os.path.relpath(error.filename, root)} ({error.strerror})")

    for folder, below, names in os.walk(root, onerror=unreadable, followlinks=True):
        prefix = f"{folder[len(root) :]}/".lstrip("/")
        kept = []
        for name in sorted(each for each in below if not is_hidden(each)):
            real = os.path.realpath(f"{folder}/{name}") if os.path.islink(f"{folder}/{name}") else None
            if real in seen:
                notes.add("links lead back into the dataset", prefix + name)
            else:
                kept.append(name)
                seen |= {real} if real else set()
        below[:] = kept
        for name in sorted(names):
            if not name.startswith(".") and takes(prefix + name, notes):
                yield Entry(prefix + name)


def _list_remote(fs: Any, root: str, path: str, notes: Notes) -> Iterator[Entry]:
    """List folder by folder as on a disk; fsspec's own walk has no order, and skips folders that cannot be listed."""
    quoted = path.startswith(("http://", "https://"))  # the links of an index page are
    found, stack = False, [root]
    try:
        while stack:
            folder = stack.pop()
            entries = sorted((each["name"].rstrip("/"), each["type"]) for each in fs.ls(folder, detail=True))
            # a store may name the folder itself, and an index page its neighbours
            inside = [(name, kind) for name, kind in entries if name.startswith(f"{folder}/")]
            found = found or bool(inside)
            inside = [(name, kind) for name, kind in inside if not is_hidden(name[len(folder) + 1 :])]
            for place in (name[len(root) + 1 :] for name, kind in inside if kind == "file"):
                file = unquote(place) if quoted else place
                if takes(file, notes):
                    yield Entry(file, place if quoted else "")
            stack += [name for name, kind in reversed(inside) if kind == "directory"]
    except Exception as error:  # each file system has errors of its own, few of them OSErrors
        if not found and is_missing(error):
            raise _missing(path) from error
        reason = plain_reason(error)
        raise DatasetError("the dataset's folder cannot be listed", where=shown(path), found=reason) from error
    if not found:
        raise _missing(path)


def _missing(path: str) -> SemscaleError:
    return DatasetError("the dataset's folder does not exist", where=shown(path), expected="a folder per class")
