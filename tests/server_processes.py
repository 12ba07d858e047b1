"""Processes of a launched server, for the tests that look at them and kill them."""

from __future__ import annotations

import json
import os
from contextlib import suppress

import psutil

from semscale.serving.launcher import ServerHandle


def server_pids(server: ServerHandle) -> list[int]:
    """List all living processes of a server; zombies, which only wait to be reaped, do not count."""
    return living_in_group(server.process.pid)


def living_in_group(group: int) -> list[int]:
    """List the living processes of a process group, oldest first."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError, PermissionError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return sorted(found)


def replicas(server: ServerHandle) -> dict[int, int]:
    """Return the process ids of the replicas by number; one that is being started again may be missing."""
    numbers = {}
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(server.process.pid).children():
            with suppress(psutil.NoSuchProcess, IndexError, ValueError, KeyError):
                numbers[json.loads(child.cmdline()[-1])["number"]] = child.pid
    return dict(sorted(numbers.items()))


def replica_pids(server: ServerHandle) -> list[int]:
    """List the replicas in the order of their addresses."""
    return list(replicas(server).values())
