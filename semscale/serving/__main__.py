"""`python -m semscale.serving JSON`: the servers of a launcher, which end with it."""

from __future__ import annotations

import sys
import threading

from semscale.serving.config import ServeConfig
from semscale.serving.process import read_settings
from semscale.serving.replicas import serve


def main(argument: str) -> int:
    """Serve what :func:`semscale.serving.launcher.launch_server` asks for, and return the exit status."""
    stop = threading.Event()
    settings, events = read_settings(argument, on_parent_gone=stop.set)
    return serve(ServeConfig(**settings["config"]), events, stop)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
