"""Loader of image folders, local or remote (fsspec); the class is a folder of the path."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote

from semscale.common.errors import DatasetError
from semscale.common.files import read_regular_file
from semscale.common.filesystem import (
    MAX_FILE_BYTES,
    REMOTE_READS,
    failure_reason,
    is_hidden,
    is_local,
    is_missing,
    is_transient_error,
    open_filesystem,
    read_image_file,
    stem,
)
from semscale.common.redact import mask_url
from semscale.datasets.dataset import DatasetListing, DatasetOptions, ListedImage, ListingWarnings, accepts_file


class FolderReader(NamedTuple):
    """Reader of images below an absolute folder or URL that all workers can access, by `parallel` concurrent reads."""

    root: str
    parallel: int = 1

    def read(self, location: str) -> bytes:
        """Return the bytes of the image at a path below the root. Raises OSError."""
        if "://" in self.root:
            return read_image_file(f"{self.root.rstrip('/')}/{location}")
        return read_regular_file(os.path.join(self.root, location), MAX_FILE_BYTES)  # a third of the time of fsspec


def open_listing(path: str, options: DatasetOptions) -> DatasetListing:
    """Open a folder: ``<root>/<class>/...``, ``<root>/<split>/<class>/...``, or any with a rule for the class."""
    warnings = ListingWarnings()
    fs, root = open_filesystem(path)
    if not is_local(path):
        entries = _list_remote(fs, root.rstrip("/"), path, warnings)
        return DatasetListing(stem(path), FolderReader(path, REMOTE_READS), entries, warnings, class_from_folder=True)
    root = os.path.abspath(root)
    if not os.path.isdir(root):
        raise _missing(root)
    entries = _list_local(root, warnings)
    return DatasetListing(os.path.basename(root), FolderReader(root), entries, warnings, class_from_folder=True)


def _list_local(root: str, warnings: ListingWarnings) -> Iterator[ListedImage]:
    """Yield the images folder by folder, each sorted; links to folders are followed, except cycles."""
    seen = {os.path.realpath(root)}

    def unreadable(error: OSError) -> None:
        if is_transient_error(error):  # all tables would differ without these images
            what, hint = "the dataset's folder cannot be listed at the moment", "run the same command again"
            raise DatasetError(what, where=str(error.filename), found=error.strerror, hint=hint) from error
        warnings.add("folders cannot be read", f"{os.path.relpath(error.filename, root)} ({error.strerror})")

    for folder, subfolders, names in os.walk(root, onerror=unreadable, followlinks=True):
        prefix = f"{folder[len(root) :]}/".lstrip("/")
        kept = []
        for name in sorted(name for name in subfolders if not is_hidden(name)):
            real = os.path.realpath(f"{folder}/{name}") if os.path.islink(f"{folder}/{name}") else None
            if real in seen:
                warnings.add("links lead back into the dataset", prefix + name)
            else:
                kept.append(name)
                seen |= {real} if real else set()
        subfolders[:] = kept
        for name in sorted(names):
            if not name.startswith(".") and accepts_file(prefix + name, warnings):
                yield ListedImage(prefix + name)


def _list_remote(fs: Any, root: str, path: str, warnings: ListingWarnings) -> Iterator[ListedImage]:
    """Yield the images folder by folder; fsspec's walk is unordered and skips folders that cannot be listed."""
    quoted = path.startswith(("http://", "https://"))  # links of an index page are percent-encoded
    exists, stack = False, [root]
    try:
        while stack:
            folder = stack.pop()
            entries = sorted((entry["name"].rstrip("/"), entry["type"]) for entry in fs.ls(folder, detail=True))
            # a store may list the folder itself, and an index page may link to its siblings
            inside = [(name, kind) for name, kind in entries if name.startswith(f"{folder}/")]
            exists = exists or bool(inside)
            inside = [(name, kind) for name, kind in inside if not is_hidden(name[len(folder) + 1 :])]
            for location in (name[len(root) + 1 :] for name, kind in inside if kind == "file"):
                file = unquote(location) if quoted else location
                if accepts_file(file, warnings):
                    yield ListedImage(file, location if quoted else "")
            stack += [name for name, kind in reversed(inside) if kind == "directory"]
    except Exception as error:  # each file system has its exceptions, few of them OSErrors
        if not exists and is_missing(error):
            raise _missing(path) from error
        reason = failure_reason(error)
        raise DatasetError("the dataset's folder cannot be listed", where=mask_url(path), found=reason) from error
    if not exists:
        raise _missing(path)


def _missing(path: str) -> DatasetError:
    return DatasetError("the dataset's folder does not exist", where=mask_url(path), expected="a folder per class")
