"""Processes of a launched server, for the tests that look at them and kill them."""

from __future__ import annotations

from semscale.serving.launcher import ServerHandle


def replica_pids(server: ServerHandle) -> list[int]:
    """List the living replicas in the order of their addresses; one that is being started again may be missing."""
    started = [replica.process for replica in server.supervisor.replicas if replica.process is not None]
    return [process.pid for process in started if process.poll() is None]
