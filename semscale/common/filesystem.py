"""File system access by path or URL through fsspec: local, s3://, gs://, https://."""

from __future__ import annotations

import errno
import glob
import os
import re
import socket
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, BinaryIO, cast

import fsspec
from fsspec.core import url_to_fs

from semscale.common.errors import ConfigError, DatasetError
from semscale.common.files import open_regular_file
from semscale.common.redact import mask_url

MAX_FILE_BYTES = 256 * 2**20
"""Size limit of an image file: no image needs more, and a mistake or an attack could have any size."""

TOO_LARGE = f"larger than {MAX_FILE_BYTES // 2**20} MiB"

REMOTE_READS = 16
"""Number of concurrent reads that pays off when each waits for a network."""

PAUSES_S = (0.1, 0.5, 2.0, 6.0)
"""Pauses between the attempts of a read, in seconds."""

_TRANSIENT_ERRNOS = {
    errno.EAGAIN, errno.EBUSY, errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTDOWN,
    errno.EHOSTUNREACH, errno.EINTR, errno.EIO, errno.EMFILE, errno.ENETDOWN, errno.ENETRESET, errno.ENETUNREACH,
    errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOTCONN, errno.EPIPE, errno.ESHUTDOWN, errno.ESTALE,
    errno.ETIMEDOUT,
}  # fmt: skip
# of aiohttp and botocore, where these are not OSErrors
_TRANSIENT_CLASSES = {"ClientConnectionError", "ClientPayloadError", "HTTPClientError", "IncompleteReadError"}
_TRANSIENT_STATUS = {408, 425, 429}

_CONNECT_S, _SILENT_S = 10.0, 60.0  # timeouts of connecting and reading, of which aiohttp sets neither
# of macOS, Synology, QNAP, Windows and ext4
_HIDDEN = re.compile(
    r"(^|/)(\.|(__MACOSX|@eaDir|@Recycle|#recycle|\$RECYCLE\.BIN|System Volume Information|lost\+found)(/|$))",
    re.IGNORECASE,
)
_ENDINGS = re.compile(r"(\.(gz|bz2|xz|zst|tar|tgz|tbz2|txz|zip|csv|tsv|parquet|jsonl|ndjson|json))+$")


@lru_cache(maxsize=64)
def open_filesystem(path: str) -> tuple[Any, str]:
    """Return the file system of a path and the path on it; local paths are made absolute."""
    if "://" not in path:  # fsspec would take the folder a::b for a chain of file systems
        return fsspec.filesystem("file"), os.path.abspath(os.path.expanduser(path))
    protocol = path.partition("://")[0]
    try:
        fs, inner = url_to_fs(path, **_settings(protocol))
    except ImportError as error:
        what = f"paths that begin with {protocol}:// need a package"
        raise ConfigError(what, where=mask_url(path), found=str(error), hint="install it with pip") from error
    except ValueError as error:
        what, expected = "the path's protocol is unknown", "a path, s3://, gs://, https://"
        raise ConfigError(what, where=mask_url(path), found=protocol, expected=expected) from error
    return fs, inner


def _settings(protocol: str) -> dict[str, Any]:
    if protocol in ("http", "https"):
        from aiohttp import ClientTimeout

        timeout = ClientTimeout(total=None, connect=None, sock_connect=_CONNECT_S, sock_read=_SILENT_S)
        return {"client_kwargs": {"timeout": timeout}}
    settings: dict[str, Any] = {}
    if protocol in ("s3", "s3a", "gs", "gcs"):
        settings["use_listings_cache"] = False  # a dictionary for each of a million images
    if protocol.startswith("s3") and "AWS_MAX_ATTEMPTS" not in os.environ:
        settings["config_kwargs"] = {"retries": {"mode": "standard", "max_attempts": 3}}
    return settings


def is_local(path: str) -> bool:
    """Return whether a path is in the local file system."""
    return isinstance(open_filesystem(path)[0], fsspec.implementations.local.LocalFileSystem)


def without_query(path: str) -> str:
    """Return a URL without its query; in a path a question mark has no meaning.

    >>> without_query("https://host/a.zip?key=1"), without_query("what?.zip")
    ('https://host/a.zip', 'what?.zip')
    """
    return path.partition("?")[0] if "://" in path else path


def open_file(path: str) -> BinaryIO:
    """Open a regular local file, or a remote one, for reading."""
    if is_local(path):
        return open_regular_file(absolute_path(path))
    fs, inner = open_filesystem(path)
    return cast(BinaryIO, fs.open(inner, "rb"))


def absolute_path(path: str) -> str:
    """Return a path that is valid in every process of this machine; URLs are unchanged."""
    return os.path.abspath(open_filesystem(path)[1]) if is_local(path) else path


def is_glob(path: str) -> bool:
    """Return whether a path is a glob pattern and not an existing file, such as a folder called ``[v2]``."""
    if is_local(path):
        return glob.has_magic(path) and not os.path.lexists(absolute_path(path))
    return glob.has_magic(path.partition("?")[0])


def find_files(path: str, endings: tuple[str, ...]) -> list[str]:
    """Return the sorted files of a path: itself, all below a folder, or the matches of a glob; hidden ones excluded."""
    fs, inner = open_filesystem(path)
    local, plain = is_local(path), without_query(path)
    matches_many = is_glob(path)
    try:
        # on a web server everything is a file
        if (
            os.path.isfile(inner)
            if local
            else plain.endswith(endings) and not matches_many and fs.info(inner)["type"] == "file"
        ):
            return [absolute_path(path)]
        names = fs.glob(inner) if matches_many else fs.find(inner)
    except Exception as error:  # the packages behind fsspec raise nearly anything
        if is_missing(error):
            return []
        what = "the files of the dataset cannot be listed"
        raise DatasetError(what, where=mask_url(path), found=failure_reason(error)) from error
    top = re.split(r"[*?\[]", inner, maxsplit=1)[0] if matches_many else inner
    files = [name for name in names if without_query(name).endswith(endings)]
    files = [name for name in files if not is_hidden(name.removeprefix(top).lstrip("/"))]
    return sorted(files if local else map(fs.unstrip_protocol, files))


def common_folder(paths: list[str]) -> str:
    """Return the folder that all paths are in, with its slash."""
    return os.path.commonprefix(paths).rpartition("/")[0] + "/"  # noqa: RUF071


def stem(path: str) -> str:
    """Return the last part of a path without suffixes such as .tar.gz."""
    return _ENDINGS.sub("", without_query(path).rstrip("/").rpartition("/")[2]) or "dataset"


def is_hidden(path: str) -> bool:
    """Return whether a path in a dataset is hidden, or in a folder in which systems keep thumbnails and deleted files.

    >>> [is_hidden(path) for path in ("a/.x/1.png", "@eaDir/a/1.png", "lost+found/1.png", "found/1.png")]
    [True, True, True, False]
    """
    return _HIDDEN.search(path) is not None


def read_image_file(path: str) -> bytes:
    """Return the bytes of an image file; raise OSError if it cannot be read, or is larger than `MAX_FILE_BYTES`."""
    try:
        with open_file(path) as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except Exception as error:  # the packages behind fsspec raise nearly anything
        raise OSError(failure_reason(error)) from error
    if len(content) > MAX_FILE_BYTES:
        raise OSError(TOO_LARGE)
    return content


class TransientReadError(OSError):
    """A read that failed for a transient reason after several attempts."""


def read_with_retries(read: Callable[[str], bytes], location: str) -> bytes:
    """Return ``read(location)``, with several attempts where the error is transient.

    Raises:
        OSError: the image cannot be read.
        DatasetError: the last attempt failed, too; results without an image that may be good would be others.
    """
    pauses = iter(PAUSES_S)
    while True:
        try:
            return read(location)
        except OSError as error:
            exhausted = isinstance(error, TransientReadError)
            if not exhausted and not is_transient_error(error):
                raise
            if exhausted or (pause := next(pauses, None)) is None:
                what, hint = "an image cannot be read at the moment", "run the same command again later"
                found = error.strerror or str(error)
                raise DatasetError(what, where=mask_url(location), found=found, hint=hint) from error
        time.sleep(pause)


def is_transient_error(error: BaseException | None) -> bool:
    """Return whether an operation may succeed later: a busy server, disk or network, but nothing missing or forbidden.

    >>> [is_transient_error(error) for error in (OSError(errno.EIO, ""), TimeoutError(), FileNotFoundError())]
    [True, True, False]
    """
    while error is not None:
        if isinstance(status := getattr(error, "status", None), int):
            return status >= 500 or status in _TRANSIENT_STATUS
        number = getattr(error, "errno", None)
        if number in (socket.EAI_NONAME, socket.EAI_NODATA):  # no such host
            return False
        classes = {base.__name__ for base in type(error).__mro__}
        if isinstance(error, TimeoutError) or number in _TRANSIENT_ERRNOS or classes & _TRANSIENT_CLASSES:
            return True
        error = error.__cause__
    return False


def is_missing(error: Exception) -> bool:
    """Return whether a file does not exist; fsspec raises the same for web servers that refuse or cannot be reached."""
    cause = error.__cause__
    refused = getattr(cause, "status", 404) != 404 or (
        isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError) and not hasattr(cause, "status")
    )
    return isinstance(error, FileNotFoundError) and not refused


def failure_reason(error: Exception) -> str:
    """Return why a file cannot be read, without URLs, which may contain keys."""
    if is_missing(error):
        return "no such file"
    if isinstance(error, FileNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return f"HTTP {status}"
    text = getattr(error, "strerror", None) or re.sub(r"\w+://\S+|\S+\?\S+=\S+", "...", str(error))
    return " ".join(str(text).split()) or type(error).__name__
