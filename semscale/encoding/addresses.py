"""Where the endpoints are: addresses, a name that stands for many, or a file that changes while servers come and go."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from semscale.errors import SemscaleError
from semscale.redact import shown

FILE = "file:"
"""What an entry begins with that names a file with an address per line."""


class Addresses:
    """The endpoints of a study as they are at the moment.

    Args:
        entries: `grpc://host:port` or `grpcs://host:port`, and `file:PATH`. A host name that resolves to several
            addresses, such as a headless Kubernetes service, stands for all of them. A file has one address per line;
            what follows a `#` is a remark.

    >>> Addresses(["grpc://127.0.0.1:51000"]).now()
    ('grpc://127.0.0.1:51000',)
    """

    def __init__(self, entries: Sequence[str]) -> None:
        self._entries = tuple(entries)
        self._last: dict[str, tuple[str, ...]] = {}
        self._found: tuple[str, ...] = ()

    @property
    def can_change(self) -> bool:
        """Whether it makes sense to ask again."""
        return any(entry.startswith(FILE) or not _is_literal(entry) for entry in self._entries)

    def now(self) -> tuple[str, ...]:
        """Return the addresses, each once, in a stable order; a name or file that fails keeps what it gave before.

        Raises:
            SemscaleError: a file cannot be read the first time, or has a line that is no address.
        """
        found: dict[str, None] = {}
        for entry in self._entries:
            urls = self._lines(entry) if entry.startswith(FILE) else (entry,)
            found.update(dict.fromkeys(one for url in urls for one in self._resolved(url)))
        self._found = tuple(found)
        return self._found

    def last(self) -> tuple[str, ...]:
        """Return what :meth:`now` returned last."""
        return self._found

    def _lines(self, entry: str) -> tuple[str, ...]:
        path = Path(entry.removeprefix(FILE)).expanduser()
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            if entry in self._last:  # it may be just being replaced
                return self._last[entry]
            raise SemscaleError(
                "the file of servers cannot be read",
                where=str(path),
                found=getattr(error, "strerror", None) or str(error),
                expected="a line grpc://host:port for each server",
            ) from error
        lines = [(number, line.partition("#")[0].strip()) for number, line in enumerate(text.splitlines(), start=1)]
        for number, line in lines:
            if line and not is_address(line):
                raise SemscaleError(
                    "a line of the file of servers is no address",
                    where=f"{path}, line {number}",
                    found=shown(line),
                    expected="grpc://host:port or grpcs://host:port",
                )
        self._last[entry] = tuple(line for _, line in lines if line)
        return self._last[entry]

    def _resolved(self, url: str) -> tuple[str, ...]:
        if _is_literal(url):
            return (url,)
        parts = urlsplit(url)
        assert parts.hostname is not None
        try:
            answers = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
        except OSError:
            # whoever connects says what is wrong with the name
            return self._last.get(url, (url,))
        families = {family for family, *_ in answers}
        family = socket.AF_INET if socket.AF_INET in families else socket.AF_INET6
        hosts = sorted({str(place[0]) for kind, *_, place in answers if kind == family})
        if len(hosts) < 2:
            self._last[url] = (url,)
        else:
            # the name goes along, for the certificate is made out to it
            name = f"#{parts.hostname}" if parts.scheme == "grpcs" else ""
            hosts = [f"[{host}]" if family == socket.AF_INET6 else host for host in hosts]
            self._last[url] = tuple(f"{parts.scheme}://{host}:{parts.port}{name}" for host in hosts)
        return self._last[url]


def is_address(url: str) -> bool:
    """Whether it is `grpc://host:port` or `grpcs://host:port`; clip-client takes a missing port for 80, without a word.

    >>> is_address("grpc://gpu1:51000"), is_address("grpc://gpu1"), is_address("http://gpu1:51000")
    (True, False, False)
    """
    try:
        parts = urlsplit(url)
        return parts.scheme in ("grpc", "grpcs") and bool(parts.hostname) and bool(parts.port)
    except ValueError:
        return False


def certificate_name(url: str) -> str | None:
    """Return the name that the certificate of an address is made out to, where that is not the address."""
    return urlsplit(url).fragment or None


def _is_literal(url: str) -> bool:
    if url.startswith(FILE):
        return False
    host = urlsplit(url).hostname or ""
    try:
        ipaddress.ip_address(re.sub(r"%.*", "", host))
    except ValueError:
        return False
    return True
