"""Images in folders, on a disk or anywhere that fsspec reaches; the path tells the class."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from semscale.datasets.source import ARCHIVE_SUFFIXES, IMAGE_SUFFIXES, Entry, Notes, Options, Source
from semscale.datasets.where import MAX_FILE_BYTES, is_local, is_missing, open_place, plain_reason, read_whole, stem
from semscale.errors import SemscaleError
from semscale.redact import shown


@dataclass(frozen=True)
class FolderReader:
    """Reads images below a folder that every worker can reach.

    Attributes:
        root: the dataset's folder, absolute or a URL.
        parallel: reads at once that pay.
    """

    root: str
    parallel: int = 1

    def read(self, place: str) -> bytes:
        """Return the bytes of an image given by its path below the root."""
        if "://" in self.root:
            return read_whole(f"{self.root.rstrip('/')}/{place}")
        # a plain open costs a third of fsspec's, and a buffer of the file's size a third of one of the limit's
        with open(os.path.join(self.root, place), "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_FILE_BYTES:
                raise OSError(f"larger than {MAX_FILE_BYTES // 2**20} MiB")
            return file.readall()


def open_source(path: str, options: Options) -> Source:
    """Open a folder: ``<root>/<class>/...``, ``<root>/<split>/<class>/...``, or any with a rule for the class.

    Raises:
        SemscaleError: the folder is missing.
    """
    notes = Notes()
    if not is_local(path):
        fs, root = open_place(path)
        return Source(
            stem(path), FolderReader(path, parallel=16), _list_remote(fs, root, path, notes), notes, by_path=True
        )
    root = os.path.abspath(open_place(path)[1])
    if not os.path.isdir(root):
        raise SemscaleError("the dataset's folder does not exist", where=root, expected="a folder per class")
    return Source(os.path.basename(root), FolderReader(root), _list_local(root, notes), notes, by_path=True)


def _list_local(root: str, notes: Notes) -> Iterator[Entry]:
    """List folder by folder, each in sorted order; links to folders are followed, but not in circles."""
    seen = {os.path.realpath(root)}
    stack = [""]
    while stack:
        folder = stack.pop()
        try:
            with os.scandir(os.path.join(root, folder)) as found:
                entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda one: one.name)
        except OSError as error:
            notes.add("folders cannot be read", f"{folder} ({error.strerror})")
            continue
        below = []
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir():
                real = os.path.realpath(entry.path) if entry.is_symlink() else ""
                if real in seen:
                    notes.add("links lead back into the dataset", path)
                    continue
                seen |= {real} if real else set()
                below.append(path)
            elif entry.is_file() or entry.is_symlink():
                yield from _entry(path, notes)
        stack += reversed(below)


def _list_remote(fs: Any, root: str, path: str, notes: Notes) -> Iterator[Entry]:
    """List folder by folder as on a disk; fsspec's own walk has no order, and skips folders that cannot be listed."""
    root, found = root.rstrip("/"), False
    quoted = path.startswith(("http://", "https://"))  # the links of an index page are
    stack = [root]
    try:
        while stack:
            folder = stack.pop()
            entries = sorted((one["name"].rstrip("/"), one["type"]) for one in fs.ls(folder, detail=True))
            # a store may name the folder itself, and an index page its neighbours
            inside = [(name, kind) for name, kind in entries if name.startswith(f"{folder}/")]
            found = found or bool(inside)
            for place in (name[len(root) + 1 :] for name, kind in inside if kind == "file"):
                for entry in _entry(unquote(place) if quoted else place, notes):
                    yield entry._replace(place=place if quoted else "")
            stack += [name for name, kind in reversed(inside) if kind == "directory"]
    except Exception as error:  # each file system has errors of its own, few of them OSErrors
        if found or not is_missing(error):
            raise SemscaleError(
                "the dataset's folder cannot be listed", where=shown(path), found=plain_reason(error)
            ) from error
    if not found:
        raise SemscaleError("the dataset's folder does not exist", where=shown(path), expected="a folder per class")


def _entry(path: str, notes: Notes) -> Iterator[Entry]:
    ending = os.path.splitext(path)[1].lower()
    if ending in IMAGE_SUFFIXES:
        yield Entry(path)
    elif ending in ARCHIVE_SUFFIXES:
        notes.add("archives inside are not opened", path)
    else:
        notes.add("files are no images by their names", path)
