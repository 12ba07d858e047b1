"""A jina Flow that starts without banners and fails with one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jina import Flow

from semscale.errors import SemscaleError

_GATEWAY = "gateway"


class PlainFlow(Flow):  # type: ignore[misc]
    """A Flow for a server that speaks for itself."""

    def _wait_until_all_ready(self) -> None:
        """Wait for every process in turn; jina's own waiting draws a spinner and panels on the terminal.

        It also asks over gRPC, whose threads would be in the way of forking later, and waits for ever for a process
        that was killed.
        """
        for _, pods, place in self.places():
            while not pods[place].is_ready.is_set():
                if pods[place].is_shutdown.wait(0.05) or not pods[place].worker.is_alive():
                    self.settle()
                    raise SemscaleError(
                        "a process of the server ended while it was starting", hint="the lines above say why"
                    )

    def settle(self) -> None:
        """Make ready for closing: jina waits a minute for the farewell of a process that was killed and gives none."""
        for _, pods, place in self.places():
            if not pods[place].worker.is_alive():
                pods[place].is_shutdown.set()

    def places(self) -> Iterator[tuple[str, list[Any], int]]:
        """List the places of the running Flow that processes fill: what it is called, jina's own list, position there.

        The gateway comes last, and replacing an entry of the list replaces the process that the Flow closes.
        """
        for name, deployment in sorted(self, key=lambda entry: entry[0] == _GATEWAY):
            for shard in deployment.shards.values():
                for place in range(len(shard._pods)):
                    yield _GATEWAY if name == _GATEWAY else f"replica {place}", shard._pods, place
