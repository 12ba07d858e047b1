"""`python -m semscale.serving JSON`: the servers of a launcher, which end with it."""

from __future__ import annotations

import json
import sys
import threading
from multiprocessing.connection import Connection

from semscale.serving.config import ServeConfig
from semscale.serving.process import watch_parent
from semscale.serving.replicas import serve


def main(argument: str) -> int:
    """Serve what :func:`semscale.serving.launcher.launch_server` asks for, and return the exit status."""
    settings = json.loads(argument)
    stop = threading.Event()
    watch_parent(settings["parent"], on_gone=stop.set)
    return serve(ServeConfig(**settings["config"]), Connection(settings["events_fd"], readable=False), stop)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
