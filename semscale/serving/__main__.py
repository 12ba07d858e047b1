"""`python -m semscale.serving JSON`: the servers of a launcher, which end with it."""

from __future__ import annotations

import json
import os
import sys
import threading

from semscale.errors import SemscaleError
from semscale.serving.config import ServeConfig
from semscale.serving.replicas import serve
from semscale.serving.status_events import EventSender, watch_parent


def main(argument: str) -> int:
    """Serve what :func:`semscale.serving.launcher.launch_server` asks for, and return the exit status."""
    options = json.loads(argument)
    stop = threading.Event()
    events = EventSender(options.pop("status_fd"))
    watch_parent(options.pop("parent"), on_gone=stop.set)
    try:
        return serve(ServeConfig(**options), events, stop)
    except SemscaleError as error:
        events.error(error)
        return 2


if __name__ == "__main__":
    status = main(sys.argv[1])
    sys.stdout.flush()
    os._exit(status)
