"""Bringing back what ends: gateway and replicas are forked again, on their old ports, from the process that began them.

A jina Flow starts its processes and never looks at them again. Here the server's main thread, in which the Flow was
started (see :mod:`semscale.serving.lifeline`), waits on all of them at once. What it forks anew has the model already:
a replica of the bundled model is back within a second or two, and the gateway finds it where the old one was.
"""

from __future__ import annotations

import multiprocessing.connection
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from jina.orchestrate.pods.factory import PodFactory

from semscale.errors import SemscaleError
from semscale.serving.announce import say
from semscale.serving.plain_flow import PlainFlow

# A picture that brings the model down is found by halving, which may cost a replica a dozen lives; a server whose
# processes end faster than this, or never come up, does nobody any good.
MOST_ENDS = 20
WINDOW = 60.0
MOST_FAILED_STARTS = 5
_TICK = 0.5
_STARTING_TICK = 0.05


@dataclass
class _Place:
    title: str
    pods: list[Any]
    position: int
    ends: deque[float] = field(default_factory=deque)
    failed_starts: int = 0
    begun: float | None = None  # when it was started again; None once it is ready

    @property
    def pod(self) -> Any:
        return self.pods[self.position]


class Supervisor:
    """Watches the processes of a running Flow; for the thread that started it.

    Args:
        flow: all its processes are ready.
        on_change: is told the process ids whenever one has changed.
    """

    def __init__(self, flow: PlainFlow, on_change: Callable[[dict[str, Any]], None]) -> None:
        self._flow = flow
        self._places = [_Place(*found) for found in flow.places()]
        self._on_change = on_change

    def process_ids(self) -> dict[str, Any]:
        """The process ids: `server`, `gateway` and, in the order of their numbers, `replicas`."""
        pids = {place.title: place.pod.worker.pid for place in self._places}
        gateway = pids.pop("gateway", None)
        return {"server": os.getpid(), "gateway": gateway, "replicas": list(pids.values())}

    def watch(self, stop: threading.Event) -> None:
        """Start again whatever ends, until the event is set.

        Raises:
            SemscaleError: a process ends again and again.
        """
        while not stop.is_set():
            by_sentinel = {place.pod.worker.sentinel: place for place in self._places}
            starting = [place for place in self._places if place.begun is not None]
            ended = multiprocessing.connection.wait(list(by_sentinel), _STARTING_TICK if starting else _TICK)
            # Ctrl-C reaches all processes at once: the replicas may end before this one has heard of it.
            if ended and stop.wait(0.1):
                return
            for sentinel in ended:
                self._start_again(by_sentinel[sentinel])
            for place in starting:
                if place.begun is not None and place.pod.is_ready.is_set():
                    say(f"{place.title} is back after {time.monotonic() - place.begun:.1f} s")
                    place.begun, place.failed_starts = None, 0

    def settle(self) -> None:
        """Make the Flow ready for closing, also while something is being started again."""
        for place in self._places:
            if place.begun is not None and not place.pod.is_ready.is_set():
                place.pod.worker.kill()  # it has nothing to lose yet, and may not hear a polite signal
                place.pod.worker.join()
        self._flow.settle()

    def _start_again(self, place: _Place) -> None:
        old = place.pod
        old.worker.join()
        how = _how_it_ended(old.worker.exitcode)
        now = time.monotonic()
        place.ends.append(now)
        while place.ends[0] < now - WINDOW:
            place.ends.popleft()
        place.failed_starts += place.begun is not None
        if place.failed_starts >= MOST_FAILED_STARTS or len(place.ends) > MOST_ENDS:
            times = (
                f"{place.failed_starts} times before it was ready"
                if place.failed_starts >= MOST_FAILED_STARTS
                else f"{len(place.ends)} times within {WINDOW:g} seconds"
            )
            raise SemscaleError(
                f"{place.title} ended {times}; the server stops",
                found=f"at last {how}",
                hint="the lines above say why; a replica that is killed may need more memory",
            )
        say(f"{place.title} ended {how}; starting it again")
        old.is_shutdown.set()
        old.close()
        old.worker.close()
        place.pods[place.position] = PodFactory.build_pod(old.args).start()
        place.begun = now
        self._on_change(self.process_ids())


def _how_it_ended(status: int | None) -> str:
    """Say it in words.

    >>> _how_it_ended(-9), _how_it_ended(1)
    ('by signal 9 (SIGKILL)', 'with exit status 1')
    """
    if status is None or status >= 0:
        return f"with exit status {status}"
    try:
        name = f" ({signal.Signals(-status).name})"
    except ValueError:
        name = ""
    return f"by signal {-status}{name}"
