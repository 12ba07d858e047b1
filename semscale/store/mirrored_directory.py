"""Mirrored directory: a local folder, or one in an object store with a local copy.

Files are read and written locally. Those of an object store (``s3://bucket/prefix``) are downloaded before they are
read and uploaded when they are complete. Every machine has a separate copy, which may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import platformdirs

from semscale.common.errors import SemscaleError, StoreError
from semscale.common.files import atomic_write
from semscale.common.filesystem import REMOTE_READS, failure_reason, open_filesystem
from semscale.common.redact import mask_url


@dataclass(frozen=True)
class MirroredDirectory:
    """A folder, local or in an object store; it can be sent to other machines.

    >>> folder = MirroredDirectory.of("s3://bucket/store/") / "abc" / "image"
    >>> str(folder), folder.is_remote
    ('s3://bucket/store/abc/image', True)
    """

    url: str  # an absolute path, or the URL of a folder in an object store

    @classmethod
    def of(cls, where: str | os.PathLike[str] | MirroredDirectory) -> MirroredDirectory:
        """Return the folder of a path or a URL."""
        if isinstance(where, MirroredDirectory):
            return where
        text = os.fspath(where)
        if "://" in text and not text.startswith("file://"):
            return cls(text.rstrip("/"))
        return cls(str(Path(text.removeprefix("file://")).expanduser().resolve()))

    def __truediv__(self, name: str) -> MirroredDirectory:
        return MirroredDirectory(f"{self.url}/{name}")

    def __str__(self) -> str:
        if self.is_remote:
            return mask_url(self.url)
        cwd = Path.cwd()
        return str(self.local.relative_to(cwd) if self.local.is_relative_to(cwd) else self.local)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.url.rpartition("/")[2]

    @property
    def is_remote(self) -> bool:
        """Return whether it is in an object store."""
        return "://" in self.url

    @property
    def shared_path(self) -> Path | None:
        """Path that all nodes of a cluster must share; None for an object store."""
        return None if self.is_remote else self.local

    @property
    def local(self) -> Path:
        """Path of the folder, or of its copy on this machine."""
        if not self.is_remote:
            return Path(self.url)
        parts = urlsplit(self.url)
        bucket = hashlib.sha256(f"{parts.scheme}://{parts.netloc}".encode()).hexdigest()[:16]
        return platformdirs.user_cache_path("semscale") / "copies" / bucket / parts.path.lstrip("/")

    def find(self, pattern: str) -> list[str]:
        """Return the sorted names of the files that match; ``*/NAME`` matches files in subfolders."""
        fs, top = open_filesystem(self.url)
        paths: list[str] = []
        with self._errors("read"), contextlib.suppress(FileNotFoundError):
            paths = fs.glob(f"{glob.escape(top)}/{pattern}")
        return sorted(path[len(top) + 1 :] for path in paths)

    def pull_missing(self, pattern: str) -> None:
        """Download the matching files that are not in the copy; existing ones are not checked."""
        if self.is_remote:
            missing = [name for name in self.find(pattern) if not (self.local / name).exists()]
            with ThreadPoolExecutor(min(REMOTE_READS, len(missing) or 1)) as pool:
                list(pool.map(self.pull, missing))

    def pull(self, name: str) -> None:
        """Download a file, replacing that of the copy, if it exists in the object store."""
        if self.is_remote:
            fs, top = open_filesystem(self.url)
            with (
                self._errors("read"),
                contextlib.suppress(FileNotFoundError),
                atomic_write(self.local / name) as partial,
            ):
                fs.get_file(f"{top}/{name}", str(partial))

    def push(self, name: str) -> None:
        """Upload a complete file; if that fails, it is removed from the copy, too, and the error is raised."""
        if self.is_remote:
            fs, top = open_filesystem(self.url)
            try:
                with self._errors("written"):
                    fs.put_file(str(self.local / name), f"{top}/{name}")
            except SemscaleError:
                (self.local / name).unlink(missing_ok=True)
                raise

    def rename(self, name: str, other: str) -> None:
        """Rename a file in the copy and then in the object store."""
        os.replace(self.local / name, self.local / other)
        if self.is_remote:
            fs, top = open_filesystem(self.url)
            with self._errors("written"):
                fs.mv(f"{top}/{name}", f"{top}/{other}")

    def remove(self, name: str) -> None:
        """Remove a file, if it exists, from the copy and the object store."""
        (self.local / name).unlink(missing_ok=True)
        if self.is_remote:
            fs, top = open_filesystem(self.url)
            with self._errors("written"), contextlib.suppress(FileNotFoundError):
                fs.rm_file(f"{top}/{name}")

    @contextlib.contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        """Raise StoreError for any exception of the packages behind fsspec."""
        try:
            yield
        except Exception as error:
            hint = "check the bucket, the network and the keys in the environment; what is stored is kept"
            what = f"the object store cannot be {action}"
            raise StoreError(what, where=str(self), found=failure_reason(error), hint=hint) from error


def store_directory(url: str | None = None) -> MirroredDirectory:
    """Return the folder of the embedding store; by default ``SEMSCALE_STORE``, or one in the user's cache."""
    cache = platformdirs.user_cache_path("semscale") / "embeddings"
    return MirroredDirectory.of(url or os.environ.get("SEMSCALE_STORE") or cache)
