"""What a server says: plain lines for people, and JSON events for the process that started it.

Events are one JSON object per line on a file descriptor that :mod:`semscale.serving.launcher` hands down:
`{"event": "progress", "text"}`, `{"event": "ready", "url", "pids": {"server", "gateway", "replicas": []}}`,
`{"event": "changed", "pids"}` when a process was started again, and
`{"event": "error", "what", "where", "found", "expected", "hint"}`.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import Any

from semscale.errors import SemscaleError


def say(text: str) -> None:
    """Print one line at once, whole even when several processes write to the same place."""
    # Nobody may be listening any more; a server does not end for that.
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.write(f"semscale serve: {text}\n")
        sys.stdout.flush()


_current: Announcer | None = None


class Announcer:
    """Tell people and the launcher what the server does.

    Args:
        status_fd: an open file descriptor for the events, or None for a server that somebody started by hand.
    """

    def __init__(self, status_fd: int | None = None) -> None:
        self._status_fd = status_fd

    def progress(self, text: str) -> None:
        """Say what happens now."""
        say(text)
        self._send({"event": "progress", "text": text})

    def ready(self, url: str, pids: dict[str, Any]) -> None:
        """Say that requests are welcome."""
        say(f"ready at {url}")
        self._send({"event": "ready", "url": url, "pids": pids})

    def changed(self, pids: dict[str, Any]) -> None:
        """Tell the launcher that a process was started again, which is worth nothing if it does not listen."""
        if self._status_fd is not None:
            os.set_blocking(self._status_fd, False)
            self._send({"event": "changed", "pids": pids})

    def error(self, error: SemscaleError) -> None:
        """Say why the server does not start."""
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"semscale serve: error: {error}\n")
            sys.stderr.flush()
        fields = ("what", "where", "found", "expected", "hint")
        self._send({"event": "error"} | {name: getattr(error, name) for name in fields})

    def _send(self, event: dict[str, Any]) -> None:
        if self._status_fd is None:
            return
        try:
            os.write(self._status_fd, (json.dumps(event) + "\n").encode())
        except BlockingIOError:
            # Nobody has read for hundreds of events; a server does not wait for that.
            pass
        except OSError:
            # The launcher is gone; the watchdog deals with that.
            self._status_fd = None


def announcer() -> Announcer:
    """The announcer of this server process; replicas inherit it from the process that forks them."""
    return _current or Announcer()


def set_announcer(announcer: Announcer) -> None:
    """Make an announcer the one of this process."""
    global _current
    _current = announcer
