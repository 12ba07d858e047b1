"""Servers that an encoder sends to, and their discovery: by address, host name, or a file that changes meanwhile."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from semscale.common.access import Access, is_address
from semscale.common.errors import ServerError, summarize
from semscale.common.files import read_regular
from semscale.common.redact import shown

_MAX_FILE_BYTES = 2**20
_ADDRESS = "grpc://host:port or grpcs://host:port"


class Servers:
    """Clip-servers at fixed addresses; subclasses discover them, or start them on demand.

    Without ``urls`` :meth:`start` is called once there is something to send. All servers may be unavailable for
    ``patience`` seconds before the encoding stops, and ``note`` is called with a message when some are.
    """

    can_change = False
    """Whether :meth:`discover` is to be asked now and then."""

    def __init__(
        self,
        urls: Sequence[str] = (),
        access: Access | None = None,
        patience: float = 120.0,
        note: Callable[[str], None] | None = None,
    ) -> None:
        self.urls = urls
        self.access = access or Access()
        self.patience = patience
        self.note = note or (lambda line: None)

    def discover(self) -> Sequence[str]:
        """Return the addresses of the moment."""
        return self.urls

    def start(self) -> Sequence[str]:
        """Start the servers and return their addresses."""
        return self.urls

    def check(self) -> None:
        """Raise SemscaleError if servers that do not answer will not come back."""


class Addresses:
    """The endpoints of a study as they are at the moment.

    `entries` are `grpc://host:port` or `grpcs://host:port`, and `file:PATH`. A host name that resolves to several
    addresses, such as a headless Kubernetes service, stands for all of them. A file has one address per line; what
    follows a `#` is a comment.
    """

    def __init__(self, entries: Sequence[str]) -> None:
        self._entries = tuple(entries)
        self._by_entry: dict[str, tuple[str, ...]] = {}
        self.can_change = not all(map(_is_literal, self._entries))

    def now(self) -> tuple[str, ...]:
        """Return the addresses, each once, in a stable order; a name or file that fails keeps what it gave before."""
        listed = (self._lines(entry) if entry.startswith("file:") else (entry,) for entry in self._entries)
        return tuple(dict.fromkeys(url for urls in listed for named in urls for url in self._resolved(named)))

    def _lines(self, entry: str) -> tuple[str, ...]:
        path = Path(entry.removeprefix("file:")).expanduser()
        try:
            text = read_regular(path, _MAX_FILE_BYTES).decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            if entry in self._by_entry:  # it may be just being replaced
                return self._by_entry[entry]
            what, found = "the file of servers cannot be read", getattr(error, "strerror", None) or summarize(error)
            raise ServerError(what, where=str(path), found=found, expected=f"lines {_ADDRESS}") from error
        lines = [line.partition("#")[0].strip() for line in text.splitlines()]
        for number, line in enumerate(lines, start=1):
            if line and not is_address(line):
                what, where = "a line of the file of servers is no address", f"{path}, line {number}"
                raise ServerError(what, where=where, found=shown(line), expected=_ADDRESS)
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


def _is_literal(url: str) -> bool:
    try:
        ipaddress.ip_address(re.sub(r"%.*", "", urlsplit(url).hostname or ""))
    except ValueError:
        return False
    return True
