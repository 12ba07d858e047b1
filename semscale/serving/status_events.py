"""Status events: JSON lines from a server to the process that started it, and lines of text for people.

Events are `{"event": "progress", "text"}`, `{"event": "ready", ...}` and
`{"event": "error", "what", "where", "found", "expected", "hint"}`.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from semscale.errors import SemscaleError

_ERROR_FIELDS = ("what", "where", "found", "expected", "hint")


def say(text: str) -> None:
    """Print one line at once, whole even when several processes write to the same place."""
    # A server does not end because nobody listens any more.
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.write(f"semscale serve: {text}\n")
        sys.stdout.flush()


class EventSender:
    """Writes events to a file descriptor; None: nobody wants them."""

    def __init__(self, fd: int | None = None) -> None:
        self._fd = fd

    def send(self, event: str, **fields: Any) -> None:
        """Send one event; a reader that is gone is ignored."""
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.write(self._fd, (json.dumps({"event": event} | fields) + "\n").encode())

    def error(self, error: SemscaleError) -> None:
        """Send an error."""
        self.send("error", **{name: getattr(error, name) for name in _ERROR_FIELDS})


class EventReader:
    """Reads events from a file descriptor, which it owns."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._pending = b""

    def read(self) -> list[dict[str, Any]] | None:
        """Return the events of one read, which blocks until there is something; None when the sender has ended."""
        chunk = os.read(self.fd, 65536)
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        return [json.loads(line) for line in lines] if chunk else None

    def close(self) -> None:
        """Close the file descriptor."""
        os.close(self.fd)


def error_of(event: dict[str, Any]) -> SemscaleError:
    """Return the error that an event reports."""
    what, *details = (event[name] for name in _ERROR_FIELDS)
    return SemscaleError(what, **dict(zip(_ERROR_FIELDS[1:], details, strict=True)))


def watch_parent(parent: int, on_gone: Callable[[], Any], interval: float = 0.5) -> None:
    """Call `on_gone` from a thread when the process with this id is not the parent of this process any more."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(interval)
        on_gone()

    threading.Thread(target=watch, name="parent-watchdog", daemon=True).start()
