"""Service discovery: the clip-servers an encoder sends to, by address, host name, or a file that may change."""

from __future__ import annotations

import ipaddress
import re
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from semscale.common.access import Access, is_address
from semscale.common.errors import SemscaleError, ServerError, summarize
from semscale.common.files import read_regular_file
from semscale.common.redact import mask_url

_MAX_FILE_BYTES = 2**20
_POLL_SECONDS = 1.0
_ADDRESS = "grpc://host:port or grpcs://host:port"


class Servers:
    """Clip-servers at fixed addresses; subclasses discover them, or start them on demand.

    Without ``urls`` :meth:`start` is called once there is something to send. All servers may be unavailable for
    ``outage_timeout`` seconds before the encoding stops; ``log`` is called with messages for the user.
    """

    can_change = False
    """True if :meth:`discover` may return other addresses later."""

    def __init__(
        self,
        urls: Sequence[str] = (),
        access: Access | None = None,
        outage_timeout: float = 120.0,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self.urls = urls
        self.access = access or Access()
        self.outage_timeout = outage_timeout
        self.log = log or (lambda message: None)

    def discover(self) -> Sequence[str]:
        """Return the current addresses."""
        return self.urls

    def start(self) -> Sequence[str]:
        """Start the servers and return their addresses."""
        return self.urls

    def check_running(self) -> None:
        """Raise ServerError if servers that do not answer will not be started again."""


class DiscoveredServers(Servers):
    """Clip-servers named by ``entries``, see :class:`Addresses`, whose addresses may change during the work."""

    def __init__(
        self, entries: Sequence[str], access: Access, outage_timeout: float, log: Callable[[str], None]
    ) -> None:
        super().__init__((), access, outage_timeout, log)
        self._names = ", ".join(entries)
        self._addresses = Addresses(entries)
        self.can_change = self._addresses.can_change
        self._reported: set[str] = set()

    def discover(self) -> Sequence[str]:
        """Return the current addresses, or the previous ones where a file has a bad line, which is logged once."""
        try:
            self.urls = self._addresses.current()
        except SemscaleError as error:
            if (message := " ".join(str(error).split())) not in self._reported:
                self._reported.add(message)
                self.log(message)
        return self.urls

    def wait_for_addresses(self) -> None:
        """Wait until there is an address; ServerError after ``outage_timeout`` seconds without one."""
        start_time, logged = time.monotonic(), False
        while not (urls := self._addresses.current()):
            if (waited := time.monotonic() - start_time) > self.outage_timeout:
                hint = "start servers, write their addresses there, and run the same command again"
                found = f"no address for {waited:.0f} s"
                raise ServerError("there is no clip-server", where=self._names, found=found, hint=hint)
            if not logged:
                self.log(f"waiting for an address in {self._names}...")
                logged = True
            time.sleep(_POLL_SECONDS)
        self.urls = urls


class Addresses:
    """The current addresses of a study's servers.

    `entries` are `grpc://host:port` or `grpcs://host:port`, and `file:PATH`. A host name that resolves to several
    addresses, such as a headless Kubernetes service, stands for all of them. A file has one address per line; `#`
    starts a comment.
    """

    def __init__(self, entries: Sequence[str]) -> None:
        self._entries = tuple(entries)
        self._last_known: dict[str, tuple[str, ...]] = {}
        self.can_change = not all(map(_is_literal, self._entries))

    def current(self) -> tuple[str, ...]:
        """Return the distinct addresses in a stable order; of a name or file that fails, the last known ones."""
        listed = (self._lines(entry) if entry.startswith("file:") else (entry,) for entry in self._entries)
        return tuple(dict.fromkeys(url for urls in listed for named in urls for url in self._resolved(named)))

    def _lines(self, entry: str) -> tuple[str, ...]:
        path = Path(entry.removeprefix("file:")).expanduser()
        try:
            text = read_regular_file(path, _MAX_FILE_BYTES).decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            if entry in self._last_known:  # it may be being replaced
                return self._last_known[entry]
            what, found = "the file of servers cannot be read", getattr(error, "strerror", None) or summarize(error)
            raise ServerError(what, where=str(path), found=found, expected=f"lines {_ADDRESS}") from error
        lines = [line.partition("#")[0].strip() for line in text.splitlines()]
        for number, line in enumerate(lines, start=1):
            if line and not is_address(line):
                what, where = "a line of the file of servers is no address", f"{path}, line {number}"
                raise ServerError(what, where=where, found=mask_url(line), expected=_ADDRESS)
        self._last_known[entry] = tuple(filter(None, lines))
        return self._last_known[entry]

    def _resolved(self, url: str) -> tuple[str, ...]:
        if _is_literal(url):
            return (url,)
        parts = urlsplit(url)
        try:
            answers = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
        except OSError:
            return self._last_known.get(url, (url,))  # connecting to it reports what is wrong with the name
        family = min(family for family, *_ in answers)  # IPv4 before IPv6
        hosts = sorted({str(address[0]) for kind, *_, address in answers if kind == family})
        self._last_known[url] = (url,)
        if len(hosts) > 1:
            # the certificate is for the host name
            name = f"#{parts.hostname}" if parts.scheme == "grpcs" else ""
            hosts = [f"[{host}]" if ":" in host else host for host in hosts]
            self._last_known[url] = tuple(f"{parts.scheme}://{host}:{parts.port}{name}" for host in hosts)
        return self._last_known[url]


def _is_literal(url: str) -> bool:
    try:
        ipaddress.ip_address(re.sub(r"%.*", "", urlsplit(url).hostname or ""))
    except ValueError:
        return False
    return True
