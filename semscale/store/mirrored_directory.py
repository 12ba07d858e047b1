"""A folder of this machine, or of an object store with a copy of it here.

Rows and results are read and written here, as files. What belongs to ``s3://bucket/prefix`` is brought here before it
is read and sent there once it is complete. Every machine has a copy of its own, which may be deleted at any time.
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
from semscale.common.filesystem import REMOTE_READS, open_filesystem, plain_reason
from semscale.common.redact import shown


@dataclass(frozen=True)
class MirroredDirectory:
    """A folder, here or in an object store; it may be handed to other machines.

    >>> folder = MirroredDirectory.of("s3://bucket/store/") / "abc" / "image"
    >>> str(folder), folder.is_remote
    ('s3://bucket/store/abc/image', True)
    """

    url: str  # an absolute path, or the URL of a folder in an object store

    @classmethod
    def of(cls, where: str | os.PathLike[str] | MirroredDirectory) -> MirroredDirectory:
        """Return the folder that is meant by a path or a URL."""
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
            return shown(self.url)
        here = Path.cwd()
        return str(self.local.relative_to(here) if self.local.is_relative_to(here) else self.local)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.url.rpartition("/")[2]

    @property
    def is_remote(self) -> bool:
        """Whether it lies in an object store."""
        return "://" in self.url

    @property
    def shared_path(self) -> Path | None:
        """The path that all nodes of a cluster must see; None for an object store."""
        return None if self.is_remote else self.local

    @property
    def local(self) -> Path:
        """The folder itself, or its copy on the machine that asks."""
        if not self.is_remote:
            return Path(self.url)
        parts = urlsplit(self.url)
        bucket = hashlib.sha256(f"{parts.scheme}://{parts.netloc}".encode()).hexdigest()[:16]
        return platformdirs.user_cache_path("semscale") / "copies" / bucket / parts.path.lstrip("/")

    def find(self, pattern: str) -> list[str]:
        """Return the names of the files there that fit, sorted; ``*/NAME`` is a file in each folder one below."""
        fs, top = open_filesystem(self.url)
        found: list[str] = []
        with self._errors("read"), contextlib.suppress(FileNotFoundError):
            found = fs.glob(f"{glob.escape(top)}/{pattern}")
        return sorted(path[len(top) + 1 :] for path in found)

    def pull(self, pattern: str) -> None:
        """Bring the files here that are there and not here; those that are here are not looked at."""
        if self.is_remote:
            missing = [name for name in self.find(pattern) if not (self.local / name).exists()]
            with ThreadPoolExecutor(min(REMOTE_READS, len(missing) or 1)) as pool:
                list(pool.map(self.pull_again, missing))

    def pull_again(self, name: str) -> None:
        """Bring a file here in place of the copy, if it is there."""
        if self.is_remote:
            fs, top = open_filesystem(self.url)
            with (
                self._errors("read"),
                contextlib.suppress(FileNotFoundError),
                atomic_write(self.local / name) as partial,
            ):
                fs.get_file(f"{top}/{name}", str(partial))

    def push(self, name: str) -> None:
        """Send a file there that is complete here; it is removed here if that fails, so that nothing is only here."""
        if self.is_remote:
            fs, top = open_filesystem(self.url)
            try:
                with self._errors("written"):
                    fs.put_file(str(self.local / name), f"{top}/{name}")
            except SemscaleError:
                (self.local / name).unlink(missing_ok=True)
                raise

    def rename(self, name: str, other: str) -> None:
        """Rename a file there and here; where that fails it may be renamed in one place only."""
        os.replace(self.local / name, self.local / other)
        if self.is_remote:
            fs, top = open_filesystem(self.url)
            with self._errors("written"):
                fs.mv(f"{top}/{name}", f"{top}/{other}")

    def remove(self, name: str) -> None:
        """Remove a file there and here, if it is there."""
        (self.local / name).unlink(missing_ok=True)
        if self.is_remote:
            fs, top = open_filesystem(self.url)
            with self._errors("written"), contextlib.suppress(FileNotFoundError):
                fs.rm_file(f"{top}/{name}")

    @contextlib.contextmanager
    def _errors(self, done: str) -> Iterator[None]:
        """Turn whatever the packages behind fsspec raise into a SemscaleError."""
        try:
            yield
        except Exception as error:
            hint = "check the bucket, the network and the keys in the environment; what is there already is kept"
            what = f"the object store cannot be {done}"
            raise StoreError(what, where=str(self), found=plain_reason(error), hint=hint) from error


def embedding_store(given: str | None = None) -> MirroredDirectory:
    """Return the embedding store: the given one, ``SEMSCALE_STORE``, or a folder of this user's cache."""
    cache = platformdirs.user_cache_path("semscale") / "embeddings"
    return MirroredDirectory.of(given or os.environ.get("SEMSCALE_STORE") or cache)
