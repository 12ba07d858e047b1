"""Paths of every kind that fsspec knows: local, s3://, gs://, https://; what is missing is said with its package."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from semscale.errors import SemscaleError
from semscale.redact import redact

MAX_FILE_BYTES = 256 * 2**20
"""An image file larger than this is not read: no picture needs it, and a mistake or an attack could be any size."""

_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp", "https": "aiohttp",
             "abfs": "adlfs", "az": "adlfs", "hf": "huggingface_hub"}  # fmt: skip


@lru_cache(maxsize=64)
def open_place(path: str) -> tuple[Any, str]:
    """Return the file system and the path on it; local paths are made absolute.

    Raises:
        SemscaleError: the protocol is unknown, or its package is not installed.
    """
    protocol = path.partition("://")[0] if "://" in path else "file"
    try:
        fs, inner = url_to_fs(os.path.expanduser(path) if protocol == "file" else path)
    except ImportError as error:
        package = _PACKAGES.get(protocol)
        raise SemscaleError(
            f"paths that begin with {protocol}:// need a package",
            where=redact(path),
            found=str(error),
            hint=f"pip install {package}" if package else None,
        ) from error
    except ValueError as error:
        raise SemscaleError(
            "the path's protocol is unknown",
            where=redact(path),
            found=protocol,
            expected="a path, s3://, gs://, https://",
        ) from error
    return fs, inner


def is_local(path: str) -> bool:
    """Tell whether a path lies on this machine's disks."""
    fs, _ = open_place(path)
    return isinstance(fs, fsspec.implementations.local.LocalFileSystem)


def stem(path: str) -> str:
    """Return the last part of a path without endings such as .tar.gz.

    >>> stem("s3://bucket/flowers.tar.gz"), stem("photos/")
    ('flowers', 'photos')
    """
    leaf = path.rstrip("/").rpartition("/")[2].partition("?")[0]
    for ending in (".gz", ".bz2", ".xz", ".zst", ".tar", ".tgz", ".zip", ".csv", ".tsv", ".parquet", ".jsonl", ".json"):
        leaf = leaf.removesuffix(ending)
    return leaf or "dataset"


def read_whole(path: str) -> bytes:
    """Return the bytes of an image file.

    Raises:
        OSError: it cannot be read, or is larger than `MAX_FILE_BYTES`.
    """
    fs, inner = open_place(path)
    with fs.open(inner, "rb") as file:
        content: bytes = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise OSError(f"larger than {MAX_FILE_BYTES // 2**20} MiB")
    return content
