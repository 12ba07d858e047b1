"""Encoding on the driver's side: a pool of encoder actors that pull chunks until everything is in the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
import ray

from semscale.access import Access
from semscale.datasets.base import Dataset
from semscale.encoding.actor import NOT_STORED, ActorSettings
from semscale.encoding.encoder_fingerprint import EncoderIdentity, read_probe
from semscale.encoding.folder import Folder
from semscale.encoding.image_outcomes import EncodedImages, Found, NotStoredError, check_bad
from semscale.encoding.key_index import text_key
from semscale.encoding.pool import Pool, Progress
from semscale.encoding.segment import Float32
from semscale.encoding.store import EmbeddingStore, LostRowsError
from semscale.encoding.throughput import WorkLog
from semscale.errors import SemscaleError

_BATCH = 64


class Encoder:
    """Encodes images and texts once each, through Ray actors that hold clip-client connections.

    Args:
        identity: the encoder behind the endpoints, from :func:`semscale.encoding.handshake.shake_hands`.
        urls: the endpoints, or a function that starts servers and returns them; it is called when there is something
            to send, and not at all when everything is in the store. None sends nothing: everything must be stored.
        store: root of the embedding store, which all nodes of the cluster must see.
        actors: number of actors; unless given one for every two CPUs of the cluster, at least one per endpoint, and at
            most eight per endpoint where no more can come.
        batch_size: images or texts per request; None adapts it to the servers.
        deadline: seconds that a server has to answer.
        patience: seconds that all servers may be away before the encoding stops.
        note: is told in words when servers are waited for or refused.
        revive: is called while no server answers; starts servers again that have ended and returns the endpoints, or
            None where that is not its business.
        access: the token to show and the authorities to trust.
        watch: returns the endpoints of the moment, and is called every few seconds; None where they do not change.

    Use as a context manager: the actors end with it. Ray must be initialised.
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
        self.identity = identity
        self.batch_size = batch_size or _BATCH
        root = Folder.of(store)
        self._folder = root / identity.fingerprint
        self._stores = {kind: EmbeddingStore(self._folder / kind) for kind in ("image", "text")}
        # what the ledger will not have sent again, and why it is not in the store
        self._bad: dict[bytes, str] = {}
        probe = read_probe(root, identity.fingerprint)
        send = urls is not None
        stored = [store.keys() for store in self._stores.values()]
        fresh = not any(map(len, stored))
        settings = ActorSettings(self._folder, identity, probe, batch_size, deadline, access or Access(), send, fresh)
        self._pool = Pool(settings, stored, urls, actors, self.batch_size, patience, note, revive, watch)

    @property
    def work(self) -> WorkLog:
        """Who encoded what so far."""
        return self._pool.work

    def wait_for_actors(self) -> None:
        """Return when all actors have started; who measures begins then."""
        self._pool.wait()

    def __enter__(self) -> Encoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the actors at once; what they stored stays."""
        self._pool.close()

    def encode_images(
        self, dataset: Dataset, progress: Progress | None = None, most_bad: int | None = None
    ) -> EncodedImages:
        """Bring all images of a dataset into the store.

        Args:
            dataset: what to read.
            progress: is told how many images are done.
            most_bad: stop when more images than this cannot be used.

        Raises:
            TooManyBadImagesError: more than `most_bad`, or not one image could be used.
            NotStoredError: nothing may be sent, and images are not in the store.
            LostRowsError: what was stored is damaged already.
            SemscaleError: no server answers.
        """
        samples = dataset.samples
        check_bad(dataset, dataset.rejected, most_bad)
        reader = ray.put(dataset.reader)
        found = Found.nothing(dataset)
        lacking: list[int] = []
        for part, report in self._pool.run("encode_images", len(samples), (reader,), samples.places, progress):
            for i, key, reason in zip(part, report.keys, report.reasons, strict=True):
                if reason == NOT_STORED:
                    lacking.append(i)
                found.note(i, key, None if reason == NOT_STORED else reason)
            found.sent += report.sent
            found.check(most_bad)
        if lacking:
            files = [samples[i].file for i in sorted(lacking)]
            raise NotStoredError(f"images of {dataset.name}", str(self._folder), files, len(samples))
        return found.settle(self._stores["image"], self._bad, most_bad)

    def encode_texts(
        self, texts: Sequence[str], progress: Progress | None = None, refused: dict[str, str] | None = None
    ) -> int:
        """Bring these texts into the store and return how many were sent.

        Args:
            texts: what to encode.
            progress: is told how many texts are done.
            refused: takes the texts that cannot be encoded, with the reason, for a caller who can go on without them.

        Raises:
            NotStoredError: nothing may be sent, and texts are not in the store.
            SemscaleError: a text cannot be encoded, and `refused` is not given: a study cannot go on without it.
        """
        unique = list(dict.fromkeys(texts))
        lacking: list[int] = []
        sent = 0
        for part, report in self._pool.run("encode_texts", len(unique), (), lambda a, b: unique[a:b], progress):
            for i, reason in zip(part, report.reasons, strict=True):
                if reason == NOT_STORED:
                    lacking.append(i)
                elif reason is not None and refused is None:
                    raise SemscaleError("a category text cannot be encoded", where=repr(unique[i]), found=reason)
                elif reason is not None:
                    self._bad[text_key(unique[i])] = reason
            sent += report.sent
        if lacking:
            raise NotStoredError("category texts", str(self._folder), [unique[i] for i in sorted(lacking)], len(unique))
        stored = self._stores["text"]
        if stored.refresh():
            lost = sum(key not in stored and key not in self._bad for key in map(text_key, unique))
            if lost:
                raise LostRowsError(stored.folder, lost)
        if refused is not None:
            missing = ((text, key) for text in unique if (key := text_key(text)) not in self._stores["text"])
            refused.update({text: self._bad.get(key, "was not stored") for text, key in missing})
        return sent

    def image_embeddings(self, keys: npt.NDArray[np.void]) -> Float32:
        """Return unit-length rows [len(keys), dimension] of stored images."""
        return self._stores["image"].read(keys)

    def text_embeddings(self, texts: Sequence[str]) -> Float32:
        """Return unit-length rows [len(texts), dimension] of stored texts."""
        return self._stores["text"].read([text_key(text) for text in texts])
