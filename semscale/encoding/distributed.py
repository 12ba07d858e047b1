"""Distributed encoder: a pool of Ray actors with clip-client connections that pull chunks until all is stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import ray

from semscale.datasets.base import Dataset
from semscale.encoding.actor import ActorSettings
from semscale.encoding.encoder import ChunkReport, Encoder
from semscale.encoding.encoder_fingerprint import EncoderIdentity, read_probe
from semscale.encoding.folder import Folder
from semscale.encoding.pool import Pool
from semscale.encoding.servers import Servers

_BATCH = 64


class DistributedEncoder(Encoder):
    """Encodes images and texts once each, through Ray actors, which end with the context; Ray must be initialised.

    Args:
        identity: the encoder behind the servers, from :func:`semscale.encoding.handshake.shake_hands`.
        servers: where to send to.
        store: root of the embedding store, which all nodes of the cluster must see.
        actors: number of actors; by default one for every two CPUs of the cluster, at least one per server, and at
            most eight per server where no more can come.
        batch_size: images or texts per request; None adapts it to the servers.
        deadline: seconds that a server has to answer.
    """

    def __init__(
        self,
        identity: EncoderIdentity,
        servers: Servers,
        store: Path | Folder,
        *,
        actors: int | None = None,
        batch_size: int | None = None,
        deadline: float = 120.0,
    ) -> None:
        super().__init__(identity, store)
        probe = read_probe(self._root, identity.fingerprint)
        stored = [stored.keys() for stored in self._stores.values()]
        fresh = not any(map(len, stored))
        settings = ActorSettings(self._folder, identity, probe, batch_size, deadline, servers.access, fresh)
        self._pool = Pool(settings, stored, servers, actors, batch_size or _BATCH)

    def wait_for_actors(self) -> None:
        """Return when all actors have started, for a measurement that begins then."""
        self._pool.wait()

    def close(self) -> None:
        """End the actors at once; what they stored stays."""
        self._pool.close()

    def _image_chunks(self, dataset: Dataset) -> Iterator[tuple[range, ChunkReport]]:
        reader = ray.put(dataset.reader)
        return self._pool.run("encode_images", len(dataset.samples), (reader,), dataset.samples.places)

    def _text_chunks(self, texts: Sequence[str]) -> Iterator[tuple[range, ChunkReport]]:
        return self._pool.run("encode_texts", len(texts), (), lambda start, stop: list(texts[start:stop]))
