"""Images in folders, on a disk or anywhere that fsspec reaches; the path tells the class."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from semscale.datasets.source import ARCHIVE_SUFFIXES, IMAGE_SUFFIXES, Entry, Notes, Options, Source
from semscale.datasets.where import MAX_FILE_BYTES, is_local, open_place, read_whole, stem
from semscale.errors import SemscaleError
from semscale.redact import redact


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
        # a plain open costs a third of fsspec's
        with open(os.path.join(self.root, place), "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise OSError(f"larger than {MAX_FILE_BYTES // 2**20} MiB")
        return content


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


def _list_remote(fs: object, root: str, path: str, notes: Notes) -> Iterator[Entry]:
    found = False
    prefix = root.rstrip("/") + "/"
    try:
        for folder, _, files in fs.walk(root):  # type: ignore[attr-defined]
            found = True
            for name in sorted(files):
                if name:
                    yield from _entry(f"{folder.rstrip('/')}/{name}".removeprefix(prefix), notes)
    except OSError as error:
        raise SemscaleError("the dataset's folder cannot be listed", where=redact(path), found=str(error)) from error
    if not found:
        raise SemscaleError("the dataset's folder does not exist", where=redact(path), expected="a folder per class")


def _entry(path: str, notes: Notes) -> Iterator[Entry]:
    ending = os.path.splitext(path)[1].lower()
    if ending in IMAGE_SUFFIXES:
        yield Entry(path)
    elif ending in ARCHIVE_SUFFIXES:
        notes.add("archives inside are not opened", path)
    else:
        notes.add("files are no images by their names", path)
