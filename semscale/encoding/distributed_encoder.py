"""Distributed encoder: Ray actors that pull chunks of work and send them to clip-servers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from semscale.common.errors import SemscaleError, summarize
from semscale.datasets.dataset import Dataset
from semscale.encoding.coordinator import Coordinator
from semscale.encoding.encoder_actor import CHUNKS_PER_ACTOR, ActorSettings, RemoteEncoder, worker_error
from semscale.encoding.server_discovery import Servers
from semscale.encoding.store_backed_encoder import ChunkReport, StoreBackedEncoder
from semscale.store.embedding_store import EmbeddingStore
from semscale.store.encoder_fingerprint import EncoderIdentity, read_probe
from semscale.store.key_index import Keys
from semscale.store.mirrored_directory import MirroredDirectory

_BATCH = 64
# Two to eight requests in a call keep all replicas busy; more only cost memory.
_REQUESTS_PER_CHUNK = 4
# An actor takes a second to start. One decodes small images faster than a server on CPUs encodes them; with large ones,
# or servers with GPUs, half of the CPUs may have to decode.
_CPUS_PER_ACTOR = 2
_MAX_ACTORS_PER_ENDPOINT = 8
_DISCOVERY_SECONDS = 2.0
# of the coordinator
_MAX_RESTARTS = 5


class CoordinatorActor(Coordinator):
    """Coordinator that may be lost and restarted: the new one claims what the store has then."""

    def __init__(self, folder: MirroredDirectory, stored: Sequence[Keys], outage_timeout: float) -> None:
        if ray.get_runtime_context().was_current_actor_reconstructed:
            stored = [EmbeddingStore(folder / kind).keys() for kind in ("image", "text")]
        super().__init__(stored, outage_timeout)


class DistributedEncoder(StoreBackedEncoder):
    """Encodes through Ray actors, which end with the context; Ray must be initialised, and all nodes see the store.

    By default there is an actor per two CPUs of the cluster, at least one per server, and at most eight per server if
    the servers are fixed. `batch_size` is per request, by default adaptive; calls have `deadline` seconds.
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
        # Claims must get through while all actors wait for leases. It runs on the driver's node: others may be lost.
        node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = {"num_cpus": 0, "max_concurrency": 10_000, "max_restarts": _MAX_RESTARTS, "max_task_retries": -1}
        coordinator = ray.remote(**options)(CoordinatorActor).options(scheduling_strategy=node)
        stored = [stored.keys() for stored in self._stores.values()]
        self._coordinator = coordinator.remote(self._folder, stored, servers.outage_timeout)
        self._demand = self._coordinator.wait_for_demand.remote()
        self._status = self._coordinator.next_status.remote()
        probe = read_probe(self._root, identity.fingerprint)
        settings = ActorSettings(self._folder, identity, probe, batch_size, deadline, servers.access)
        cpus = float(ray.cluster_resources().get("CPU", 1.0))
        n_endpoints = max(1, len(self._urls))
        max_actors = math.inf if servers.can_change else _MAX_ACTORS_PER_ENDPOINT * n_endpoints
        n_actors = actors or max(n_endpoints, int(min(cpus / _CPUS_PER_ACTOR, max_actors)))
        # Half a CPU each (decoding needs it, waiting for a server does not), and never more than half of the cluster:
        # otherwise some actors could not be scheduled.
        cpus_per_actor = min(0.5, cpus / (2 * n_actors))
        # on all nodes: each has its own disk, network and decoders
        actor = RemoteEncoder.options(num_cpus=cpus_per_actor, scheduling_strategy="SPREAD")
        self._actors = [actor.remote(index, settings) for index in range(n_actors)]

    def close(self) -> None:
        """End the actors immediately; what they have stored stays."""
        for task in [self._status, self._demand, *self._running]:  # otherwise Ray reports retries
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
        """Let the actors pull chunks of n items, texts or images of a reader; yield reports in any order."""
        start = 0
        slots = CHUNKS_PER_ACTOR * len(self._actors)
        free = list(range(len(self._actors))) * CHUNKS_PER_ACTOR
        while True:
            while free and start < n:
                # guided self-scheduling: chunks (of whole requests) shrink, so that all actors end together
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
        """Return a finished task; meanwhile discover servers, start them on demand, and log messages."""
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
                    servers.log(message)
                if all_down:
                    servers.check_running()
            elif ready == [self._demand]:
                _result_of(self._demand)
                self._urls = self._urls or tuple(servers.start())
                _result_of(self._coordinator.open.remote(self._urls))
                self._demand = self._coordinator.wait_for_demand.remote()
            elif ready:
                return ready[0]


def _result_of(task: Any) -> Any:
    """Return the result of an actor's task; ServerError if the actor or the coordinator has ended for good."""
    try:
        return ray.get(task)
    except (ray.exceptions.RayTaskError, ray.exceptions.RayActorError) as error:
        cause = getattr(error, "cause", error)
        if isinstance(cause, SemscaleError):
            raise cause from None
        if isinstance(cause, ray.exceptions.RayActorError):
            raise worker_error(summarize(cause)) from error
        raise
