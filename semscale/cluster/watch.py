"""Watchdog of Ray: detects a lost raylet or GCS during the work, and restarts a local Ray once."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from _thread import interrupt_main
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TypeVar

import ray

from semscale.cluster.connection import connect
from semscale.common.errors import ClusterError, summarize
from semscale.common.progress import ProgressReporter
from semscale.common.redact import printable

_WATCH_SECONDS, _ANSWER_SECONDS = 0.5, 5.0
# Without Ray's processes most calls fail, and the others hang. The head of a cluster may be restarted meanwhile; Ray
# itself ends this process a minute after the head was lost.
_LOST_SECONDS, _LOST_SECONDS_OF_CLUSTER, _HOPELESS_SECONDS = 2.0, 30.0, 50.0

T = TypeVar("T")


class LostRayError(ClusterError):
    """Ray has ended during the work."""


def run_on_ray(address: str | None, shared: Path | None, report: ProgressReporter, work: Callable[[], T]) -> T:
    """Connect to Ray, run `work` and return its result; if a local Ray ends, start both once more.

    Args:
        address: of a cluster; None for the one in ``RAY_ADDRESS`` or a local Ray.
        shared: a folder that all nodes must see.
        report: shows progress and messages.
        work: the function to run; its second call must continue the unfinished work of the first.

    Raises:
        LostRayError: Ray ended, a local one for the second time.
    """
    is_cluster = address or os.environ.get("RAY_ADDRESS") or ray.is_initialized()

    def attempt() -> T:
        with ExitStack() as stack:
            connect(address, shared, report, stack)
            stack.enter_context(_watched(_LOST_SECONDS_OF_CLUSTER if is_cluster else _LOST_SECONDS))
            return work()

    with nullcontext() if is_cluster else suppress(LostRayError):
        return attempt()
    report.note("Ray on this machine has ended and is restarted; what is done is kept")
    return attempt()


@contextmanager
def _watched(timeout: float) -> Iterator[None]:
    """Raise LostRayError if this node's raylet or the cluster's GCS does not answer for `timeout` seconds."""
    hint = "too little memory is the usual reason; run the same command again: what is done is kept"
    addresses, finished = dict[str, str](), threading.Event()
    if not ray.util.client.ray.is_connected():  # a Ray client knows none of the addresses
        context = ray.get_runtime_context()
        (node,) = [node for node in ray.nodes() if node["NodeID"] == context.get_node_id()]
        addresses = {
            "GCS": context.gcs_address,
            "raylet": f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}",
        }
        addresses = {name: address for name, address in addresses.items() if _listens(address)}
    # not SIGINT, which background jobs of a shell ignore
    in_main = threading.current_thread() is threading.main_thread()
    previous_handler = signal.signal(signal.SIGUSR2, signal.default_int_handler) if in_main else None

    def check() -> LostRayError | None:
        silent = [(name, address) for name, address in addresses.items() if not _listens(address)]
        found = "; ".join(f"no answer from its {name} at {address}" for name, address in silent)
        return LostRayError("Ray has ended during the work", found=found, hint=hint) if silent else None

    def watch() -> None:
        last_answer = last_interrupt = time.monotonic()
        while not finished.wait(_WATCH_SECONDS):
            now = time.monotonic()
            if (error := check()) is None:
                last_answer = last_interrupt = now
            elif now > last_answer + _HOPELESS_SECONDS:  # in a call that cannot be interrupted
                print(f"Error: {printable(str(error))}", file=sys.stderr, flush=True)
                os._exit(1)
            elif now > last_interrupt + timeout:
                interrupt_main(signal.SIGUSR2)
                last_interrupt = now

    if in_main:
        threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        finished.set()
        if loss := check():
            raise loss from error
        if isinstance(error, ray.exceptions.RayError) and not isinstance(error, ray.exceptions.RayTaskError):
            raise ClusterError("Ray has lost part of the work", found=summarize(error), hint=hint) from error
        raise
    finally:
        finished.set()
        if in_main:
            signal.signal(signal.SIGUSR2, previous_handler or signal.SIG_DFL)


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS):
        return True
    return False
