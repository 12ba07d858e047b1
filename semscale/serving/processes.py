"""Which processes of a group still live, without a package for it."""

from __future__ import annotations

import os
from pathlib import Path


def living_in_group(group: int) -> list[int]:
    """List the process ids of a process group, oldest first; zombies, which only wait to be reaped, do not count.

    Reads /proc (Linux); elsewhere it can only tell whether the group's leader exists.

    >>> os.getpid() in living_in_group(os.getpgid(0))
    True
    """
    proc = Path("/proc")
    if not (proc / "self" / "stat").exists():
        try:
            os.kill(group, 0)
        except ProcessLookupError:
            return []
        return [group]
    found = []
    for entry in proc.iterdir():
        if entry.name.isdigit():
            try:
                # The name, in parentheses, may hold spaces: read from its end.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == group and fields[0] not in ("Z", "X"):
                found.append(int(entry.name))
    return sorted(found)
