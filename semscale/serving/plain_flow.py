"""A jina Flow that starts without banners and fails with one sentence."""

from __future__ import annotations

import multiprocessing
import os
from typing import Any

from jina import Flow
from jina.excepts import RuntimeFailToStart, RuntimeRunForeverEarlyError

from semscale.errors import SemscaleError


class PlainFlow(Flow):  # type: ignore[misc]
    """A Flow for a server that speaks for itself."""

    def _wait_until_all_ready(self) -> None:
        """Wait for every process in turn; jina's own waiting draws a spinner and panels on the terminal."""
        try:
            for _, deployment in self:
                deployment.wait_start_success()
        except (RuntimeFailToStart, RuntimeRunForeverEarlyError) as error:
            raise SemscaleError(
                "a process of the server ended while it was starting", hint="the lines above say why"
            ) from error


def process_ids() -> dict[str, Any]:
    """The process ids of a running Flow of this process: `server`, `gateway` and, in order, `replicas`."""
    children = {child.name: child.pid for child in multiprocessing.active_children()}
    replicas = sorted(name for name in children if name.startswith("clip/"))
    replicas.sort(key=len)
    gateway = next((pid for name, pid in children.items() if name.startswith("gateway")), None)
    return {"server": os.getpid(), "gateway": gateway, "replicas": [children[name] for name in replicas]}
