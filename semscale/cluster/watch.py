"""Watch over Ray: a raylet or GCS that ends amid the work is noticed, and Ray of a sweep's own starts once more."""

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
from semscale.common.progress import Reporter
from semscale.common.redact import printable

_WATCH_SECONDS, _ANSWER_SECONDS = 0.5, 5.0
# Without Ray's processes most calls fail by themselves, and the others never. The head of a cluster may be started
# again meanwhile; Ray itself ends this process a minute after it was lost.
_LOST_SECONDS, _LOST_SECONDS_OF_CLUSTER, _HOPELESS_SECONDS = 2.0, 30.0, 50.0

T = TypeVar("T")


class LostRayError(ClusterError):
    """Ray has ended amid the work."""


def on_ray(address: str | None, shared: Path | None, report: Reporter, work: Callable[[], T]) -> T:
    """Return what `work` gives while Ray is connected; where Ray of its own ends, both begin once more.

    Args:
        address: of a cluster; None for the one in ``RAY_ADDRESS`` or a Ray of its own.
        shared: a folder that all nodes must see.
        report: is told what is waited for.
        work: what is done meanwhile; it must be able to continue its own unfinished work.

    Raises:
        LostRayError: Ray ended, for the second time where it was the sweep's own.
    """
    is_cluster = address or os.environ.get("RAY_ADDRESS") or ray.is_initialized()

    def attempt() -> T:
        with ExitStack() as stack:
            connect(address, shared, report, stack)
            stack.enter_context(_watched(_LOST_SECONDS_OF_CLUSTER if is_cluster else _LOST_SECONDS))
            return work()

    with nullcontext() if is_cluster else suppress(LostRayError):
        return attempt()
    report.note("Ray on this machine has ended and is started again; what is done is kept")
    return attempt()


@contextmanager
def _watched(patience: float) -> Iterator[None]:
    """Raise LostRayError when this node's raylet or the cluster's GCS has ended, at the latest after `patience`."""
    hint = "too little memory is the usual reason; give the same command again: what is done is kept"
    addresses, over = dict[str, str](), threading.Event()
    if not ray.util.client.ray.is_connected():  # a client of a cluster has none of its addresses
        context = ray.get_runtime_context()
        (here,) = [node for node in ray.nodes() if node["NodeID"] == context.get_node_id()]
        addresses = {"GCS": context.gcs_address, "raylet": f"{here['NodeManagerAddress']}:{here['NodeManagerPort']}"}
        addresses = {name: address for name, address in addresses.items() if _listens(address)}
    # SIGINT itself is ignored in a shell's background jobs
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGUSR2, signal.default_int_handler) if in_main else None

    def lost() -> LostRayError | None:
        found = [
            f"no answer from its {name} at {address}" for name, address in addresses.items() if not _listens(address)
        ]
        return LostRayError("Ray has ended amid the work", found="; ".join(found), hint=hint) if found else None

    def watch() -> None:
        well = next_one = time.monotonic()
        while not over.wait(_WATCH_SECONDS):
            now = time.monotonic()
            if (error := lost()) is None:
                well = next_one = now
            elif now > well + _HOPELESS_SECONDS:  # a call that no interrupt reaches
                print(f"Error: {printable(str(error))}", file=sys.stderr, flush=True)
                os._exit(1)
            elif now > next_one + patience:
                interrupt_main(signal.SIGUSR2)
                next_one = now  # what goes on in spite of it is interrupted again

    if in_main:
        threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        over.set()
        if gone := lost():
            raise gone from error
        if isinstance(error, ray.exceptions.RayError) and not isinstance(error, ray.exceptions.RayTaskError):
            raise ClusterError("Ray has lost a part of the work", found=summarize(error), hint=hint) from error
        raise
    finally:
        over.set()
        if in_main:
            signal.signal(signal.SIGUSR2, before or signal.SIG_DFL)


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS):
        return True
    return False
