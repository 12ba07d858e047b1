"""File systems behind paths and URLs (fsspec): local, s3://, gs://, https://."""

from __future__ import annotations

import glob
import os
import re
from functools import lru_cache
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from semscale.errors import SemscaleError
from semscale.redact import shown

MAX_FILE_BYTES = 256 * 2**20
"""An image file larger than this is not read: no picture needs it, and a mistake or an attack could be any size."""

TOO_LARGE = f"larger than {MAX_FILE_BYTES // 2**20} MiB"

REMOTE_READS = 16
"""Number of concurrent reads that pay when each waits for a network."""

_CONNECT_S, _SILENT_S = 10.0, 60.0  # how long a host may take to answer, and be silent; aiohttp limits neither
_ENDINGS = re.compile(r"(\.(gz|bz2|xz|zst|tar|tgz|tbz2|txz|zip|csv|tsv|parquet|jsonl|ndjson|json))+$")


@lru_cache(maxsize=64)
def open_filesystem(path: str) -> tuple[Any, str]:
    """Return the file system of a path and the path on it; local paths are made absolute."""
    protocol = path.partition("://")[0] if "://" in path else "file"
    try:
        fs, inner = url_to_fs(os.path.expanduser(path) if protocol == "file" else path, **_settings(protocol))
    except ImportError as error:
        problem = f"paths that begin with {protocol}:// need a package"
        raise SemscaleError(problem, where=shown(path), found=str(error), hint="install it with pip") from error
    except ValueError as error:
        what, expected = "the path's protocol is unknown", "a path, s3://, gs://, https://"
        raise SemscaleError(what, where=shown(path), found=protocol, expected=expected) from error
    return fs, inner


def _settings(protocol: str) -> dict[str, Any]:
    if protocol in ("http", "https"):
        from aiohttp import ClientTimeout

        timeout = ClientTimeout(total=None, connect=None, sock_connect=_CONNECT_S, sock_read=_SILENT_S)
        return {"client_kwargs": {"timeout": timeout}}
    settings: dict[str, Any] = {}
    if protocol in ("s3", "s3a", "gs", "gcs"):
        settings["use_listings_cache"] = False  # it would keep a dictionary for each of a million images
    if protocol.startswith("s3") and "AWS_MAX_ATTEMPTS" not in os.environ:
        settings["config_kwargs"] = {"retries": {"mode": "standard", "max_attempts": 3}}
    return settings


def is_local(path: str) -> bool:
    """Tell whether a path is on this machine's disks."""
    return isinstance(open_filesystem(path)[0], fsspec.implementations.local.LocalFileSystem)


def without_query(path: str) -> str:
    """Return a URL without its query; in a path a question mark is a letter like others.

    >>> without_query("https://host/a.zip?key=1"), without_query("what?.zip")
    ('https://host/a.zip', 'what?.zip')
    """
    return path.partition("?")[0] if "://" in path else path


def location(path: str) -> str:
    """Return a path that means the same in every process of this machine; URLs stay."""
    return os.path.abspath(open_filesystem(path)[1]) if is_local(path) else path


def find_files(path: str, endings: tuple[str, ...]) -> list[str]:
    """Return the files that a path stands for, sorted: itself, all below a folder, or a glob's; no hidden ones."""
    fs, inner = open_filesystem(path)
    local, plain = is_local(path), without_query(path)
    is_glob = glob.has_magic(path if local else plain)
    try:
        # to a web server everything is a file
        if (
            os.path.isfile(inner)
            if local
            else plain.endswith(endings) and not is_glob and fs.info(inner)["type"] == "file"
        ):
            return [location(path)]
        found = fs.glob(inner) if is_glob else fs.find(inner)
    except Exception as error:  # the packages behind fsspec raise nearly anything
        if is_missing(error):
            return []
        what = "the files of the dataset cannot be listed"
        raise SemscaleError(what, where=shown(path), found=plain_reason(error)) from error
    above = re.split(r"[*?\[]", inner, maxsplit=1)[0]
    files = [name for name in found if without_query(name).endswith(endings)]
    files = [name for name in files if "/." not in f"/{name.removeprefix(above).lstrip('/')}"]
    return sorted(files if local else map(fs.unstrip_protocol, files))


def shared_folder(paths: list[str]) -> str:
    """Return the folder above all paths, with its slash."""
    return os.path.commonprefix(paths).rpartition("/")[0] + "/"  # noqa: RUF071


def stem(path: str) -> str:
    """Return the last part of a path without endings such as .tar.gz."""
    return _ENDINGS.sub("", without_query(path).rstrip("/").rpartition("/")[2]) or "dataset"


def read_whole(path: str) -> bytes:
    """Return the bytes of an image file; OSError if it cannot be read, or is larger than `MAX_FILE_BYTES`."""
    try:
        fs, inner = open_filesystem(path)
        with fs.open(inner, "rb") as file:
            content: bytes = file.read(MAX_FILE_BYTES + 1)
    except Exception as error:  # the packages behind fsspec raise nearly anything, and one image is one image
        raise OSError(plain_reason(error)) from error
    if len(content) > MAX_FILE_BYTES:
        raise OSError(TOO_LARGE)
    return content


def is_missing(error: Exception) -> bool:
    """Tell whether something does not exist; fsspec says so of web servers that are out of reach or refuse, too."""
    cause = error.__cause__
    refused = getattr(cause, "status", 404) != 404 or (
        isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError) and not hasattr(cause, "status")
    )
    return isinstance(error, FileNotFoundError) and not refused


def plain_reason(error: Exception) -> str:
    """Return why something cannot be read, without URLs, which may carry keys."""
    if is_missing(error):
        return "no such file"
    if isinstance(error, FileNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return f"HTTP {status}"
    text = getattr(error, "strerror", None) or re.sub(r"\w+://\S+|\S+\?\S+=\S+", "...", str(error))
    return " ".join(str(text).split()) or type(error).__name__
