"""Service discovery: the endpoints of a study, by address, host name, or a file that changes as servers come and go."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from semscale.errors import SemscaleError, summarize
from semscale.redact import shown

FILE = "file:"
"""Prefix of an entry that names a file with an address per line."""


class Addresses:
    """The endpoints of a study as they are at the moment.

    Args:
        entries: `grpc://host:port` or `grpcs://host:port`, and `file:PATH`. A host name that resolves to several
            addresses, such as a headless Kubernetes service, stands for all of them. A file has one address per line;
            what follows a `#` is a comment.

    >>> Addresses(["grpc://127.0.0.1:51000"]).now()
    ('grpc://127.0.0.1:51000',)
    """

    def __init__(self, entries: Sequence[str]) -> None:
        self._entries = tuple(entries)
        self._by_entry: dict[str, tuple[str, ...]] = {}
        self._last: tuple[str, ...] = ()

    @property
    def can_change(self) -> bool:
        """Whether the addresses may be others later."""
        return not all(map(_is_literal, self._entries))

    def now(self) -> tuple[str, ...]:
        """Return the addresses, each once, in a stable order; a name or file that fails keeps what it gave before.

        Raises:
            SemscaleError: a file cannot be read the first time, or has a line that is no address.
        """
        found: dict[str, None] = {}
        for entry in self._entries:
            for url in self._lines(entry) if entry.startswith(FILE) else (entry,):
                found.update(dict.fromkeys(self._resolved(url)))
        self._last = tuple(found)
        return self._last

    def last(self) -> tuple[str, ...]:
        """Return what :meth:`now` returned last."""
        return self._last

    def _lines(self, entry: str) -> tuple[str, ...]:
        path = Path(entry.removeprefix(FILE)).expanduser()
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            if entry in self._by_entry:  # it may be just being replaced
                return self._by_entry[entry]
            found = getattr(error, "strerror", None) or summarize(error)
            expected = "a line grpc://host:port for each server"
            raise SemscaleError(
                "the file of servers cannot be read", where=str(path), found=found, expected=expected
            ) from error
        lines = [line.partition("#")[0].strip() for line in text.splitlines()]
        for number, line in enumerate(lines, start=1):
            if line and not is_address(line):
                raise SemscaleError(
                    "a line of the file of servers is no address",
                    where=f"{path}, line {number}",
                    found=shown(line),
                    expected="grpc://host:port or grpcs://host:port",
                )
        self._by_entry[entry] = tuple(filter(None, lines))
        return self._by_entry[entry]

    def _resolved(self, url: str) -> tuple[str, ...]:
        if _is_literal(url):
            return (url,)
        parts = urlsplit(url)
        try:
            answers = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
        except OSError:
            return self._by_entry.get(url, (url,))  # connecting says what is wrong with the name
        family = min(family for family, *_ in answers)  # IPv4 before IPv6
        hosts = sorted({str(address[0]) for kind, *_, address in answers if kind == family})
        self._by_entry[url] = (url,)
        if len(hosts) > 1:
            # the name goes along, for the certificate is made out to it
            name = f"#{parts.hostname}" if parts.scheme == "grpcs" else ""
            hosts = [f"[{host}]" if ":" in host else host for host in hosts]
            self._by_entry[url] = tuple(f"{parts.scheme}://{host}:{parts.port}{name}" for host in hosts)
        return self._by_entry[url]


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
    try:
        ipaddress.ip_address(re.sub(r"%.*", "", urlsplit(url).hostname or ""))
    except ValueError:
        return False
    return True
