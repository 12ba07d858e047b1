"""Imports what later stages need while this thread waits for other processes to start."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

SHARED = ("aiohttp.web", "click", "grpc.aio", "opentelemetry.sdk.metrics.export", "prometheus_client")
"""Packages that Ray imports when it starts and other engines import too; here one after the other.

Two threads may import modules at once, but where packages import each other in circles, as these do, one of the threads
could be handed a half-made module.
"""


@contextmanager
def importing(*modules: str) -> Iterator[None]:
    """Import modules in another thread while the context is open; its end waits for them.

    What goes wrong is not told here: who needs the module imports it again, and meets it there.

    Args:
        modules: their full names, in order.
    """
    if not modules:
        yield
        return
    for name in SHARED:
        importlib.import_module(name)

    def work() -> None:
        with suppress(Exception):
            for name in modules:
                importlib.import_module(name)

    thread = Thread(target=work, name="imports", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()
