"""File systems behind paths and URLs (fsspec): local, s3://, gs://, https://."""

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

from semscale.common.errors import SemscaleError
from semscale.common.files import open_regular
from semscale.common.redact import shown

MAX_FILE_BYTES = 256 * 2**20
"""An image file larger than this is not read: no picture needs it, and a mistake or an attack could be any size."""

TOO_LARGE = f"larger than {MAX_FILE_BYTES // 2**20} MiB"

REMOTE_READS = 16
"""Number of concurrent reads that pay when each waits for a network."""

PAUSES_S = (0.1, 0.5, 2.0, 6.0)
"""How long to wait before a read that failed is tried again."""

_PASSING = {
    errno.EAGAIN, errno.EBUSY, errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTDOWN,
    errno.EHOSTUNREACH, errno.EINTR, errno.EIO, errno.EMFILE, errno.ENETDOWN, errno.ENETRESET, errno.ENETUNREACH,
    errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOTCONN, errno.EPIPE, errno.ESHUTDOWN, errno.ESTALE,
    errno.ETIMEDOUT,
}  # fmt: skip
# of aiohttp and botocore, where they are no OSErrors
_PASSING_KINDS = {"ClientConnectionError", "ClientPayloadError", "HTTPClientError", "IncompleteReadError"}
_PASSING_STATUS = {408, 425, 429}

_CONNECT_S, _SILENT_S = 10.0, 60.0  # how long a host may take to answer, and be silent; aiohttp limits neither
# of macOS, Synology, QNAP, Windows and ext4
_HIDDEN = re.compile(
    r"(^|/)(\.|(__MACOSX|@eaDir|@Recycle|#recycle|\$RECYCLE\.BIN|System Volume Information|lost\+found)(/|$))",
    re.IGNORECASE,
)
_ENDINGS = re.compile(r"(\.(gz|bz2|xz|zst|tar|tgz|tbz2|txz|zip|csv|tsv|parquet|jsonl|ndjson|json))+$")


@lru_cache(maxsize=64)
def open_filesystem(path: str) -> tuple[Any, str]:
    """Return the file system of a path and the path on it; local paths are made absolute."""
    if "://" not in path:  # to fsspec the folder a::b would be a chain of file systems
        return fsspec.filesystem("file"), os.path.abspath(os.path.expanduser(path))
    protocol = path.partition("://")[0]
    try:
        fs, inner = url_to_fs(path, **_settings(protocol))
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


def open_file(path: str) -> BinaryIO:
    """Open a regular file on a disk, or one behind fsspec."""
    if is_local(path):
        return open_regular(absolute_path(path))
    fs, inner = open_filesystem(path)
    return cast(BinaryIO, fs.open(inner, "rb"))


def absolute_path(path: str) -> str:
    """Return a path that means the same in every process of this machine; URLs stay."""
    return os.path.abspath(open_filesystem(path)[1]) if is_local(path) else path


def is_pattern(path: str) -> bool:
    """Tell whether a path is a glob; a folder may be called ``[v2]``."""
    if is_local(path):
        return glob.has_magic(path) and not os.path.lexists(absolute_path(path))
    return glob.has_magic(path.partition("?")[0])


def find_files(path: str, endings: tuple[str, ...]) -> list[str]:
    """Return the files that a path stands for, sorted: itself, all below a folder, or a glob's; no hidden ones."""
    fs, inner = open_filesystem(path)
    local, plain = is_local(path), without_query(path)
    is_glob = is_pattern(path)
    try:
        # to a web server everything is a file
        if (
            os.path.isfile(inner)
            if local
            else plain.endswith(endings) and not is_glob and fs.info(inner)["type"] == "file"
        ):
            return [absolute_path(path)]
        found = fs.glob(inner) if is_glob else fs.find(inner)
    except Exception as error:  # the packages behind fsspec raise nearly anything
        if is_missing(error):
            return []
        what = "the files of the dataset cannot be listed"
        raise SemscaleError(what, where=shown(path), found=plain_reason(error)) from error
    above = re.split(r"[*?\[]", inner, maxsplit=1)[0] if is_glob else inner
    files = [name for name in found if without_query(name).endswith(endings)]
    files = [name for name in files if not is_hidden(name.removeprefix(above).lstrip("/"))]
    return sorted(files if local else map(fs.unstrip_protocol, files))


def shared_folder(paths: list[str]) -> str:
    """Return the folder above all paths, with its slash."""
    return os.path.commonprefix(paths).rpartition("/")[0] + "/"  # noqa: RUF071


def stem(path: str) -> str:
    """Return the last part of a path without endings such as .tar.gz."""
    return _ENDINGS.sub("", without_query(path).rstrip("/").rpartition("/")[2]) or "dataset"


def is_hidden(path: str) -> bool:
    """Tell whether a path in a dataset is hidden, or of a folder in which systems keep thumbnails and waste.

    >>> [is_hidden(path) for path in ("a/.x/1.png", "@eaDir/a/1.png", "lost+found/1.png", "found/1.png")]
    [True, True, True, False]
    """
    return _HIDDEN.search(path) is not None


def read_whole(path: str) -> bytes:
    """Return the bytes of an image file; OSError if it cannot be read, or is larger than `MAX_FILE_BYTES`."""
    try:
        with open_file(path) as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except Exception as error:  # the packages behind fsspec raise nearly anything, and one image is one image
        raise OSError(plain_reason(error)) from error
    if len(content) > MAX_FILE_BYTES:
        raise OSError(TOO_LARGE)
    return content


class PassingError(OSError):
    """A read that failed for a reason that may pass, and that was tried again already."""


def read_again(read: Callable[[str], bytes], location: str) -> bytes:
    """Return what a reader's `read` does, tried again where a failure may pass. Raises OSError for what is certain.

    In the end it is a SemscaleError: the image may be a good one, and without it every table would be another one.
    """
    pauses = iter(PAUSES_S)
    while True:
        try:
            return read(location)
        except OSError as error:
            tried = isinstance(error, PassingError)
            if not tried and not may_pass(error):
                raise
            if tried or (pause := next(pauses, None)) is None:
                what, hint = "an image cannot be read at the moment", "give the same command again later"
                found = error.strerror or str(error)
                raise SemscaleError(what, where=shown(location), found=found, hint=hint) from error
        time.sleep(pause)


def may_pass(error: BaseException | None) -> bool:
    """Tell whether what failed may succeed later: a busy server, disk or network, but nothing missing or forbidden.

    >>> may_pass(OSError(errno.EIO, "")), may_pass(TimeoutError()), may_pass(FileNotFoundError())
    (True, True, False)
    """
    while error is not None:
        if isinstance(status := getattr(error, "status", None), int):
            return status >= 500 or status in _PASSING_STATUS
        number = getattr(error, "errno", None)
        if number in (socket.EAI_NONAME, socket.EAI_NODATA):  # no host has this name
            return False
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if isinstance(error, TimeoutError) or number in _PASSING or kinds & _PASSING_KINDS:
            return True
        error = error.__cause__
    return False


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
