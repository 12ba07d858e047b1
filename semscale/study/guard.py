"""Ends what a local Ray leaves running when its driver is killed; a process of its own, for which nothing is imported.

The kernel ends Ray's daemons with the driver. Workers that were just starting then look for them for half a minute,
and the agents for as long try to report the end to a service that is gone.

Run as a script: MARK FD. FD is the reading end of a pipe that only the driver holds open.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_VARIABLE = "SEMSCALE_GUARDED_BY"
# else Ray's processes write their titles over their environment, and with it over the mark
_KEEP_ENVIRONMENT = "SPT_NOENV"
_LONGEST, _PAUSE, _QUIET_LOOKS = 5.0, 0.05, 3


class Guard:
    """Ends what is started within :meth:`marking` when this process ends, or calls :meth:`close`; on Linux."""

    def __init__(self) -> None:
        self._mark = uuid.uuid4().hex
        self._process: subprocess.Popen[bytes] | None = None
        if not sys.platform.startswith("linux"):
            return
        out, self._into = os.pipe()
        command = [sys.executable, "-I", "-S", str(Path(__file__).resolve()), self._mark, str(out)]
        try:
            # not in this session: Ctrl-C, and a terminal that closes, end this process only
            self._process = subprocess.Popen(command, pass_fds=(out,), start_new_session=True, stdin=subprocess.DEVNULL)
        except BaseException:
            os.close(self._into)
            raise
        finally:
            os.close(out)

    @contextmanager
    def marking(self) -> Iterator[None]:
        """Let processes that are started meanwhile, and all that they start, inherit the mark by their environment."""
        marks = {_VARIABLE: self._mark, _KEEP_ENVIRONMENT: "1"}
        before = {name: os.environ.get(name) for name in marks}
        os.environ.update(marks)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    def close(self) -> None:
        """End what has not ended yet, and wait until that is done; it is safe to call it twice."""
        if self._process is not None:
            os.close(self._into)
            self._process.wait()
            self._process = None


def _marked(mark: str) -> list[int]:
    line, found = f"{_VARIABLE}={mark}".encode(), []
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit() and line in Path("/proc", name, "environ").read_bytes().split(b"\0"):
                found.append(int(name))
    return found


def _watch(mark: str, fd: int) -> None:
    while os.read(fd, 1):
        pass
    give_up, quiet = time.monotonic() + _LONGEST, 0
    while quiet < _QUIET_LOOKS and time.monotonic() < give_up:
        found = _marked(mark)  # one that is forked amid a look is seen by the next
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        quiet = 0 if found else quiet + 1
        time.sleep(_PAUSE)


if __name__ == "__main__":
    _watch(sys.argv[1], int(sys.argv[2]))
