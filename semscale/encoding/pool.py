"""The encoder actors of a sweep: they pull chunks of work; the driver hears what becomes of them and of the servers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from semscale.encoding.actor import CHUNKS, ActorSettings, RemoteEncoder
from semscale.encoding.encoder import ChunkReport
from semscale.encoding.endpoint_pool import News
from semscale.encoding.key_index import Keys
from semscale.encoding.ledger import Ledger
from semscale.encoding.servers import Servers
from semscale.encoding.throughput import Share
from semscale.errors import SemscaleError, summarize

# Two to eight requests in one call keep all replicas busy; more only costs memory.
_REQUESTS_PER_CHUNK = 4
# An actor costs a second of its own; one decodes small pictures faster than a CPU's server takes them, while for large
# ones, or servers with GPUs, half of the CPUs may have to decode.
_CPUS_PER_ACTOR = 2
_MOST_ACTORS_PER_ENDPOINT = 8
# seconds between looks at which servers there are
_LOOK_EVERY = 2.0


class Pool:
    """Actors that each hold clip-client connections, and the ledger that they ask what is to be sent, and where.

    Args:
        settings: what every actor is told.
        stored: the keys that are in the store; one array for each of its kinds.
        servers: where to send to; started when there is something to send, unless they have addresses.
        actors: how many; None: one for every two CPUs, at least one per server, and at most eight per server where no
            more can come.
        batch_size: documents per request that chunks are cut for.
    """

    def __init__(
        self, settings: ActorSettings, stored: Sequence[Keys], servers: Servers, actors: int | None, batch_size: int
    ) -> None:
        self._batch_size = batch_size
        self._chunk = 0
        self._running: dict[Any, tuple[int, range]] = {}
        self._servers = servers
        given = tuple(servers.urls)
        self._watched, self._looked = given, time.monotonic()
        # Every actor may wait for the servers at once, and claims must still get through. It stays with the driver:
        # other nodes come and go.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        ledger = ray.remote(num_cpus=0, max_concurrency=10_000)(Ledger).options(scheduling_strategy=here)
        self._ledger = ledger.remote(stored, given, servers.patience)
        self._asked = None if given else self._ledger.asked.remote()
        self._news = self._ledger.news.remote()
        cluster = float(ray.cluster_resources().get("CPU", 1.0))
        endpoints = max(1, len(given))
        most = math.inf if servers.can_change else _MOST_ACTORS_PER_ENDPOINT * endpoints  # more servers may come
        count = actors or max(endpoints, int(min(cluster / _CPUS_PER_ACTOR, most)))
        # Half a CPU each while they live (decoding needs it, waiting for the server does not), and never more than
        # half the cluster, or actors that find no place would be waited for.
        cpus = min(0.5, cluster / (2 * count))
        # over all nodes: each has its own disk, network and decoders
        remote = RemoteEncoder.options(num_cpus=cpus, scheduling_strategy="SPREAD")
        self._actors = [remote.remote(index, settings) for index in range(count)]

    def wait(self) -> None:
        """Return when all actors have started."""
        ray.get([actor.__ray_ready__.remote() for actor in self._actors])

    def close(self) -> None:
        """End the actors at once; what they stored stays."""
        for task in self._running:  # amid their work after a fault: without this Ray would announce retries
            ray.cancel(task)
        for actor in [*self._actors, self._ledger]:
            ray.kill(actor)
        self._actors = []

    def run(
        self, method: str, n: int, extra: tuple[Any, ...], items: Callable[[int, int], list[str]]
    ) -> Iterator[tuple[range, ChunkReport]]:
        """Let the actors pull chunks of the items 0 to n; reports come in any order, each with its place."""
        start = 0
        free = [index for index in range(len(self._actors)) for _ in range(CHUNKS)]
        share = Share(self._chunk_size(n), self._batch_size)
        running = self._running
        while True:
            for index in list(free):
                if start == n or not (size := share.size(index, n - start)):
                    continue
                part = range(start, min(start + size, n))
                free.remove(index)
                start = part.stop
                self._chunk += 1
                chunk = items(part.start, part.stop)
                task = getattr(self._actors[index], method).remote(self._chunk, self._ledger, *extra, chunk)
                share.given(index, len(part))
                running[task] = (index, part)
            if not running:
                return
            task = self._next()
            index, part = running.pop(task)
            report = _result(task)
            share.finished(index, len(part))
            yield part, report
            free.append(index)

    def _next(self) -> Any:
        """Return a task that is done; meanwhile start the servers if an actor wants one, and say what goes wrong."""
        while True:
            asked = [self._asked] if self._asked is not None else []
            limit = _LOOK_EVERY if self._servers.can_change else None
            ready, _ = ray.wait([*asked, self._news, *self._running], num_returns=1, timeout=limit)
            self._look()
            if not ready:
                continue
            (task,) = ready
            if task == self._news:
                self._tell(ray.get(task))
            elif task == self._asked:
                self._asked = None
                ray.get(self._ledger.open.remote(self._servers.start()))
            else:
                return task

    def _look(self) -> None:
        """Tell the ledger when servers have come or gone."""
        if not self._servers.can_change or time.monotonic() - self._looked < _LOOK_EVERY:
            return
        urls, self._looked = tuple(self._servers.discover()), time.monotonic()
        if urls != self._watched:
            self._watched = urls
            ray.get(self._ledger.update.remote(urls))

    def _tell(self, news: News) -> None:
        self._news = self._ledger.news.remote()
        for line in news.lines:
            self._servers.note(line)
        if news.down and (urls := self._servers.restart()):
            ray.get(self._ledger.open.remote(urls))

    def _chunk_size(self, n: int) -> int:
        # small sets are cut finer, so that every actor has work; whole requests either way
        share = math.ceil(n / (CHUNKS * len(self._actors)) / self._batch_size)
        return self._batch_size * min(_REQUESTS_PER_CHUNK, max(1, share))


def _result(task: Any) -> ChunkReport:
    try:
        report: ChunkReport = ray.get(task)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, SemscaleError):
            raise error.cause from None
        raise
    except ray.exceptions.RayActorError as error:
        raise SemscaleError(
            "the workers that encode this part of the dataset end again and again",
            found=summarize(error),
            hint="too little memory is the usual reason; give the same command again: what is encoded is kept",
        ) from error
    return report
