"""A folder of this machine, or of an object store with a copy of it here.

Rows and results are read and written here, as files, whatever the place. What belongs to ``s3://bucket/prefix`` is
brought here before it is read and sent there once it is complete: an object appears whole or not at all, as a file does
that is renamed into its place. Every machine has a copy of its own, which may be deleted at any time.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from semscale.datasets.filesystem import REMOTE_READS, open_filesystem, plain_reason
from semscale.errors import SemscaleError
from semscale.redact import shown

T = TypeVar("T")


def cache_folder() -> Path:
    """Return this user's folder for what can be had again: ``semscale`` in the XDG cache."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "semscale"


@dataclass(frozen=True)
class Folder:
    """A folder, here or in an object store; it may be handed to other machines.

    Attributes:
        root: an absolute path, or the URL of a folder in an object store.
        inner: the path of this folder below the root.

    >>> place = Folder("s3://bucket/store/") / "abc" / "image"
    >>> str(place), place.is_remote
    ('s3://bucket/store/abc/image', True)
    """

    root: str
    inner: str = ""

    @classmethod
    def of(cls, where: str | os.PathLike[str] | Folder) -> Folder:
        """Return the place that is meant by a path or a URL."""
        if isinstance(where, Folder):
            return where
        text = os.fspath(where)
        if "://" in text and not text.startswith("file://"):
            return cls(text.rstrip("/"))
        return cls(str(Path(text.removeprefix("file://")).expanduser().resolve()))

    def __truediv__(self, name: str) -> Folder:
        return Folder(self.root, f"{self.inner}/{name}" if self.inner else name)

    def __str__(self) -> str:
        if self.is_remote:
            return shown("/".join(part for part in (self.root.rstrip("/"), self.inner) if part))
        here = Path.cwd()
        return str(self.local.relative_to(here) if self.local.is_relative_to(here) else self.local)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return (self.inner or self.root).rstrip("/").rpartition("/")[2]

    @property
    def is_remote(self) -> bool:
        """Whether it lies in an object store."""
        return "://" in self.root

    @property
    def local(self) -> Path:
        """The folder itself, or its copy on the machine that asks."""
        if not self.is_remote:
            return Path(self.root) / self.inner
        name = hashlib.sha256(self.root.encode()).hexdigest()[:16]
        return cache_folder() / "copies" / name / self.inner

    def find(self, pattern: str) -> list[str]:
        """Return the names of the files there that fit, sorted.

        Args:
            pattern: names, with ``*``; ``*/NAME`` is a file in each folder one below.

        Raises:
            SemscaleError: the object store cannot be read.
        """
        if not self.is_remote:
            return sorted(str(path.relative_to(self.local)) for path in self.local.glob(pattern))
        fs, top = self._open()
        depth = pattern.count("/") + 1
        found: list[str] = self._asked(
            lambda: [path[len(top) + 1 :] for path in fs.find(top, maxdepth=depth)], missing=[]
        )
        return sorted(name for name in found if name.count("/") + 1 == depth and fnmatch.fnmatch(name, pattern))

    def pull(self, pattern: str) -> None:
        """Bring the files here that are there and not here; those that are here are not looked at.

        Args:
            pattern: as for :meth:`find`.

        Raises:
            SemscaleError: the object store cannot be read.
        """
        if not self.is_remote:
            return
        missing = [name for name in self.find(pattern) if not (self.local / name).exists()]
        with ThreadPoolExecutor(min(REMOTE_READS, len(missing) or 1)) as pool:
            list(pool.map(self._fetch, missing))

    def pull_again(self, name: str) -> None:
        """Bring a file here in place of the copy."""
        if self.is_remote:
            self._fetch(name)

    def push(self, name: str) -> None:
        """Send a file there that is complete here.

        Raises:
            SemscaleError: the object store cannot be written; the copy is removed, so that nothing is only here.
        """
        if not self.is_remote:
            return
        fs, top = self._open()
        try:
            fs.put_file(str(self.local / name), f"{top}/{name}")
        except Exception as error:  # the packages behind fsspec raise nearly anything
            (self.local / name).unlink(missing_ok=True)
            raise self._unusable("written", error) from error

    def rename(self, name: str, other: str) -> None:
        """Rename a file there and here.

        Raises:
            OSError: it is not allowed; the file may be renamed in one place only.
        """
        os.replace(self.local / name, self.local / other)
        if self.is_remote:
            fs, top = self._open()
            try:
                fs.mv(f"{top}/{name}", f"{top}/{other}")
            except Exception as error:
                raise OSError(0, plain_reason(error)) from error

    def remove(self, name: str) -> None:
        """Remove a file there and here, if it is there.

        Raises:
            OSError: it is not allowed.
        """
        (self.local / name).unlink(missing_ok=True)
        if self.is_remote:
            fs, top = self._open()
            try:
                fs.rm_file(f"{top}/{name}")
            except Exception as error:
                raise OSError(0, plain_reason(error)) from error

    def _open(self) -> tuple[Any, str]:
        fs, top = open_filesystem(self.root)
        return fs, "/".join(part for part in (top.rstrip("/"), self.inner) if part)

    def _fetch(self, name: str) -> None:
        fs, top = self._open()
        target = self.local / name
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}.partial")
        try:
            # whoever set it aside meanwhile has renamed it
            self._asked(lambda: fs.get_file(f"{top}/{name}", str(partial)), missing=None)
            if partial.exists():
                os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)

    def _asked(self, question: Callable[[], T], missing: T) -> T:
        try:
            return question()
        except FileNotFoundError:
            return missing
        except Exception as error:
            raise self._unusable("read", error) from error

    def _unusable(self, done: str, error: Exception) -> SemscaleError:
        return SemscaleError(
            f"the object store cannot be {done}",
            where=str(self),
            found=plain_reason(error),
            hint="check the bucket, the network and the keys in the environment; what is there already is kept",
        )


def embedding_store(given: str | None = None) -> Folder:
    """Return the embedding store: the given one, ``SEMSCALE_STORE``, or a folder of this user's cache."""
    return Folder.of(given or os.environ.get("SEMSCALE_STORE") or cache_folder() / "embeddings")
