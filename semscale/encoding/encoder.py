"""Distributed encoder: a pool of Ray actors with clip-client connections that pull chunks until all is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import ray

from semscale.access import Access
from semscale.datasets.base import Dataset
from semscale.encoding.actor import ActorSettings
from semscale.encoding.encoder_fingerprint import EncoderIdentity, read_probe
from semscale.encoding.folder import Folder
from semscale.encoding.pool import Pool
from semscale.encoding.store_backed import Progress, StoreBackedEncoder
from semscale.encoding.throughput import WorkLog

_BATCH = 64


class Encoder(StoreBackedEncoder):
    """Encodes images and texts once each, through Ray actors that hold clip-client connections.

    Args:
        identity: the encoder behind the endpoints, from :func:`semscale.encoding.handshake.shake_hands`.
        urls: the endpoints, or a function that starts servers and returns them; it is called when there is something
            to send, and not at all when everything is in the store. None sends nothing: everything must be stored.
        store: root of the embedding store, which all nodes of the cluster must see.
        actors: number of actors; by default one for every two CPUs of the cluster, at least one per endpoint, and at
            most eight per endpoint where no more can come.
        batch_size: images or texts per request; None adapts it to the servers.
        deadline: seconds that a server has to answer.
        patience: seconds that all servers may be unavailable before the encoding stops.
        note: called with a message when servers are unavailable or refused.
        revive: called while no server answers; restarts servers that have ended and returns the endpoints, or None.
        access: the token to show and the authorities to trust.
        watch: service discovery: returns the endpoints of the moment; None where they do not change.

    The actors end with the context. Ray must be initialised.
    """

    def __init__(
        self,
        identity: EncoderIdentity,
        urls: Sequence[str] | Callable[[], Sequence[str]] | None,
        store: Path | Folder,
        *,
        actors: int | None = None,
        batch_size: int | None = None,
        deadline: float = 120.0,
        patience: float = 120.0,
        note: Callable[[str], None] | None = None,
        revive: Callable[[], Sequence[str] | None] | None = None,
        access: Access | None = None,
        watch: Callable[[], Sequence[str]] | None = None,
    ) -> None:
        super().__init__(identity, store)
        probe = read_probe(self._root, identity.fingerprint)
        stored = [stored.keys() for stored in self._stores.values()]
        fresh = not any(map(len, stored))
        settings = ActorSettings(
            self._folder, identity, probe, batch_size, deadline, access or Access(), urls is not None, fresh
        )
        self._pool = Pool(settings, stored, urls, actors, batch_size or _BATCH, patience, note, revive, watch)

    @property
    def work(self) -> WorkLog:
        """Who encoded what so far."""
        return self._pool.work

    def wait_for_actors(self) -> None:
        """Return when all actors have started, for a measurement that begins then."""
        self._pool.wait()

    def close(self) -> None:
        """End the actors at once; what they stored stays."""
        self._pool.close()

    def _encode_image_chunks(
        self, dataset: Dataset, progress: Progress | None
    ) -> Iterator[tuple[range, Sequence[bytes | None], Sequence[str | None], int]]:
        reader = ray.put(dataset.reader)
        samples = dataset.samples
        for part, report in self._pool.run("encode_images", len(samples), (reader,), samples.places, progress):
            yield part, report.keys, report.reasons, report.sent

    def _encode_text_chunks(
        self, texts: Sequence[str], progress: Progress | None
    ) -> Iterator[tuple[Sequence[int], Sequence[str | None], int]]:
        chunks = self._pool.run("encode_texts", len(texts), (), lambda a, b: list(texts[a:b]), progress)
        for part, report in chunks:
            yield part, report.reasons, report.sent
