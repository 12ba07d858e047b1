"""Distributed encoder: Ray actors with clip-client connections that pull chunks of work until all is stored."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from semscale.common.errors import SemscaleError, summarize
from semscale.datasets.base import Dataset
from semscale.encoding.coordinator import Coordinator
from semscale.encoding.encoder_actor import CHUNKS, ActorSettings, RemoteEncoder, workers_end
from semscale.encoding.server_discovery import Servers
from semscale.encoding.store_backed_encoder import ChunkReport, StoreBackedEncoder
from semscale.store.embedding_store import EmbeddingStore
from semscale.store.encoder_fingerprint import EncoderIdentity, read_probe
from semscale.store.key_index import Keys
from semscale.store.mirrored_directory import MirroredDirectory

_BATCH = 64
# Two to eight requests in one call keep all replicas busy; more only costs memory.
_REQUESTS_PER_CHUNK = 4
# An actor costs a second of its own; one decodes small pictures faster than a CPU's server takes them, while for large
# ones, or servers with GPUs, half of the CPUs may have to decode.
_CPUS_PER_ACTOR = 2
_MAX_ACTORS_PER_ENDPOINT = 8
_DISCOVERY_SECONDS = 2.0
# of the coordinator; one that ends more often does so for a reason
_MAX_RESTARTS = 5


class CoordinatorActor(Coordinator):
    """The coordinator in a process that may be lost: the claims of the next one are what the store has by then."""

    def __init__(self, folder: MirroredDirectory, stored: Sequence[Keys], outage_timeout: float) -> None:
        if ray.get_runtime_context().was_current_actor_reconstructed:
            stored = [EmbeddingStore(folder / kind).keys() for kind in ("image", "text")]
        super().__init__(stored, outage_timeout)


class DistributedEncoder(StoreBackedEncoder):
    """Encodes through Ray actors, which end with the context; Ray must be initialised, and all nodes see the store.

    By default there is an actor for every two CPUs of the cluster, at least one per server, and at most eight per
    server where no more can come. Without a `batch_size` (per request) it is adapted; calls have `deadline` seconds.
    """

    def __init__(
        self,
        identity: EncoderIdentity,
        servers: Servers,
        store: Path | MirroredDirectory,
        *,
        actors: int | None = None,
        batch_size: int | None = None,
        deadline: float = 120.0,
    ) -> None:
        super().__init__(identity, store)
        self._batch_size = batch_size or _BATCH
        self._chunk = 0
        self._running: dict[Any, tuple[int, range]] = {}
        self._servers = servers
        self._urls, self._discovered = tuple(servers.urls), time.monotonic()
        # Every actor may wait for the servers at once, and claims must still get through. It stays with the driver:
        # other nodes come and go.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        how = {"num_cpus": 0, "max_concurrency": 10_000, "max_restarts": _MAX_RESTARTS, "max_task_retries": -1}
        coordinator = ray.remote(**how)(CoordinatorActor).options(scheduling_strategy=here)
        stored = [stored.keys() for stored in self._stores.values()]
        self._coordinator = coordinator.remote(self._folder, stored, servers.patience)
        self._demand = self._coordinator.wait_for_demand.remote()
        self._status = self._coordinator.next_status.remote()
        probe = read_probe(self._root, identity.fingerprint)
        settings = ActorSettings(self._folder, identity, probe, batch_size, deadline, servers.access)
        cluster = float(ray.cluster_resources().get("CPU", 1.0))
        endpoints = max(1, len(self._urls))
        most = math.inf if servers.can_change else _MAX_ACTORS_PER_ENDPOINT * endpoints
        count = actors or max(endpoints, int(min(cluster / _CPUS_PER_ACTOR, most)))
        # Half a CPU each while they live (decoding needs it, waiting for the server does not), and never more than
        # half the cluster, or actors that find no place would be waited for.
        cpus = min(0.5, cluster / (2 * count))
        # over all nodes: each has its own disk, network and decoders
        actor = RemoteEncoder.options(num_cpus=cpus, scheduling_strategy="SPREAD")
        self._actors = [actor.remote(index, settings) for index in range(count)]

    def close(self) -> None:
        """End the actors at once; what they stored stays."""
        for task in [self._status, self._demand, *self._running]:  # without this Ray would announce retries
            ray.cancel(task)
        for actor in [*self._actors, self._coordinator]:
            ray.kill(actor)
        self._actors = []

    def _image_chunks(self, dataset: Dataset) -> Iterator[tuple[range, ChunkReport]]:
        return self._run(len(dataset.samples), dataset.samples.locations, ray.put(dataset.reader))

    def _text_chunks(self, texts: Sequence[str]) -> Iterator[tuple[range, ChunkReport]]:
        return self._run(len(texts), lambda start, stop: list(texts[start:stop]))

    def _run(
        self, n: int, items: Callable[[int, int], list[str]], reader: Any = None
    ) -> Iterator[tuple[range, ChunkReport]]:
        """Let the actors pull chunks of the items 0 to n, texts or images of a reader; reports come in any order."""
        start = 0
        slots = CHUNKS * len(self._actors)
        free = list(range(len(self._actors))) * CHUNKS
        while True:
            while free and start < n:
                # guided self-scheduling: ever smaller chunks of whole requests, so that all actors end together
                requests = math.ceil((n - start) / slots / self._batch_size)
                part = range(start, min(start + min(requests, _REQUESTS_PER_CHUNK) * self._batch_size, n))
                start = part.stop
                self._chunk += 1
                chunk, index = items(part.start, part.stop), free.pop(0)
                task = self._actors[index].encode.remote(self._chunk, self._coordinator, chunk, reader)
                self._running[task] = (index, part)
            if not self._running:
                return
            task = self._next_result()
            index, part = self._running.pop(task)
            yield part, _result_of(task)
            free.append(index)

    def _next_result(self) -> Any:
        """Return a task that is done; meanwhile start and discover servers, and pass messages on."""
        servers = self._servers
        while True:
            timeout = _DISCOVERY_SECONDS if servers.can_change else None
            ready, _ = ray.wait([self._status, self._demand, *self._running], num_returns=1, timeout=timeout)
            if servers.can_change and time.monotonic() - self._discovered >= _DISCOVERY_SECONDS:
                urls, self._discovered = tuple(servers.discover()), time.monotonic()
                if urls != self._urls:
                    self._urls = urls
                    _result_of(self._coordinator.update.remote(urls))
            if ready == [self._status]:
                messages, all_down = _result_of(self._status)
                self._status = self._coordinator.next_status.remote()
                for message in messages:
                    servers.note(message)
                if all_down:
                    servers.check()
            elif ready == [self._demand]:
                _result_of(self._demand)
                self._urls = self._urls or tuple(servers.start())
                _result_of(self._coordinator.open.remote(self._urls))
                self._demand = self._coordinator.wait_for_demand.remote()
            elif ready:
                return ready[0]


def _result_of(task: Any) -> Any:
    """Return what an actor answers; SemscaleError if it, or the coordinator that it asked, has ended for good."""
    try:
        return ray.get(task)
    except (ray.exceptions.RayTaskError, ray.exceptions.RayActorError) as error:
        cause = getattr(error, "cause", error)
        if isinstance(cause, SemscaleError):
            raise cause from None
        if isinstance(cause, ray.exceptions.RayActorError):
            raise workers_end(summarize(cause)) from error
        raise
