"""Encoding on the driver's side: a pool of encoder actors that pull chunks until everything is in the store."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from semscale.access import Access
from semscale.datasets.base import Dataset
from semscale.encoding.actor import CHUNKS, NOT_STORED, ActorSettings, ChunkReport, RemoteEncoder, text_key
from semscale.encoding.gate import News
from semscale.encoding.identity import EncoderIdentity, read_probe
from semscale.encoding.lacking import NotStoredError, TooManyBadImagesError
from semscale.encoding.ledger import Ledger
from semscale.encoding.segment import Float32
from semscale.encoding.share import Share
from semscale.encoding.store import EmbeddingStore, LostRowsError
from semscale.encoding.work import WorkLog
from semscale.errors import SemscaleError

Progress = Callable[[int, int], None]

_BATCH = 64
# Two to eight requests in one call keep all replicas busy; more only costs memory.
_REQUESTS_PER_CHUNK = 4
# An actor costs a second of its own; one decodes small pictures faster than a CPU's server takes them, while for large
# ones, or servers with GPUs, half of the CPUs may have to decode.
_CPUS_PER_ACTOR = 2
_MOST_ACTORS_PER_ENDPOINT = 8


@dataclass(frozen=True)
class EncodedImages:
    """The images of a dataset that are in the store, and those that cannot be used.

    Attributes:
        positions: int64[n], indices into the dataset's samples, ascending.
        keys: V32[n], per position the SHA-256 of the image file.
        quarantine: file -> reason for all other samples, and for what the listing refused.
        sent: documents sent to the servers on this occasion.
    """

    positions: npt.NDArray[np.int64]
    keys: npt.NDArray[np.void]
    quarantine: dict[str, str]
    sent: int


class Encoder:
    """Encodes images and texts once each, through Ray actors that hold clip-client connections.

    Args:
        identity: the encoder behind the endpoints, from :func:`semscale.encoding.handshake.shake_hands`.
        urls: the endpoints, or a function that starts servers and returns them; it is called when there is something
            to send, and not at all when everything is in the store. None sends nothing: everything must be stored.
        store: root of the embedding store.
        actors: number of actors; unless given one for every two CPUs of the cluster, at least one and at most eight
            per endpoint.
        batch_size: images or texts per request; None adapts it to the servers.
        deadline: seconds that a server has to answer.
        patience: seconds that all servers may be away before the encoding stops.
        note: is told in words when servers are waited for or refused.
        revive: is called while no server answers; starts servers again that have ended and returns the endpoints, or
            None where that is not its business.
        access: the token to show and the authorities to trust.

    Use as a context manager: the actors end with it. Ray must be initialised.
    """

    def __init__(
        self,
        identity: EncoderIdentity,
        urls: Sequence[str] | Callable[[], Sequence[str]] | None,
        store: Path,
        *,
        actors: int | None = None,
        batch_size: int | None = None,
        deadline: float = 120.0,
        patience: float = 120.0,
        note: Callable[[str], None] | None = None,
        revive: Callable[[], Sequence[str] | None] | None = None,
        access: Access | None = None,
    ) -> None:
        self.identity = identity
        self.batch_size = batch_size or _BATCH
        self._folder = store / identity.fingerprint
        self._stores = {kind: EmbeddingStore(self._folder / kind) for kind in ("image", "text")}
        self._chunk = 0
        self.work = WorkLog()
        # what the ledger will not have sent again, and why it is not in the store
        self._bad: dict[bytes, str] = {}
        self._running: dict[Any, tuple[int, range]] = {}
        self._start = urls if callable(urls) else None
        given = () if callable(urls) or urls is None else tuple(urls)
        stored = [store.keys() for store in self._stores.values()]
        self._note = note or (lambda line: None)
        self._revive = revive
        # Every actor may wait for the servers at once, and claims must still get through. It stays with the driver:
        # other nodes come and go.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        ledger = ray.remote(num_cpus=0, max_concurrency=10_000)(Ledger).options(scheduling_strategy=here)
        self._ledger = ledger.remote(stored, given, patience)
        self._asked = self._ledger.asked.remote() if self._start else None
        self._news = self._ledger.news.remote()
        probe = read_probe(store, identity.fingerprint)
        send = urls is not None
        settings = ActorSettings(self._folder, identity, probe, batch_size, deadline, access or Access(), send)
        cluster = float(ray.cluster_resources().get("CPU", 1.0))
        endpoints = max(1, len(given))
        count = actors or max(endpoints, min(int(cluster / _CPUS_PER_ACTOR), _MOST_ACTORS_PER_ENDPOINT * endpoints))
        # Half a CPU each while they live (decoding needs it, waiting for the server does not), and never more than
        # half the cluster, or actors that find no place would be waited for.
        cpus = min(0.5, cluster / (2 * count))
        # over all nodes: each has its own disk, network and decoders
        remote = RemoteEncoder.options(num_cpus=cpus, scheduling_strategy="SPREAD")
        self._actors = [remote.remote(index, settings) for index in range(count)]

    def __enter__(self) -> Encoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the actors at once; what they stored stays."""
        for task in self._running:  # amid their work after a fault: without this Ray would announce retries
            ray.cancel(task)
        for actor in [*self._actors, self._ledger]:
            ray.kill(actor)
        self._actors = []

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
        rejected = dict(dataset.rejected)
        _check_bad(dataset, rejected, most_bad)
        reader = ray.put(dataset.reader)
        keys = np.zeros(len(samples), dtype="V32")
        known = np.zeros(len(samples), dtype=np.bool_)
        reasons: dict[int, str] = {}
        lacking: list[int] = []
        sent = 0
        for part, report in self._run("encode_images", len(samples), (reader,), samples.places, progress):
            for i, key, reason in zip(part, report.keys, report.reasons, strict=True):
                if key is not None:
                    keys[i], known[i] = key, True
                if reason == NOT_STORED:
                    lacking.append(i)
                elif reason is not None:
                    reasons[i] = reason
            sent += report.sent
            if most_bad is not None and len(rejected) + len(reasons) > most_bad:
                _check_bad(dataset, rejected | _by_file(dataset, reasons), most_bad)
        if lacking:
            files = [samples[i].file for i in sorted(lacking)]
            raise NotStoredError(f"images of {dataset.name}", self._folder, files, len(samples))
        stored = self._stores["image"]
        damaged = stored.refresh()
        # a copy of a bad image is as bad as the one that was sent
        self._bad.update({keys[i].tobytes(): reason for i, reason in reasons.items() if known[i]})
        missing = [i for i in np.flatnonzero(~(known & stored.holds(keys))).tolist() if i not in reasons]
        for i in missing:
            reasons[i] = self._bad.get(keys[i].tobytes(), "was not stored")
        lost = [i for i in missing if known[i] and keys[i].tobytes() not in self._bad]
        if damaged and lost:  # they are no bad images, and belong into no quarantine
            raise LostRowsError(stored.folder, len(lost))
        good = np.ones(len(samples), dtype=np.bool_)
        good[list(reasons)] = False
        positions = np.flatnonzero(good)
        quarantine = rejected | _by_file(dataset, reasons)
        _check_bad(dataset, quarantine, most_bad)
        if not len(positions):
            raise TooManyBadImagesError(dataset.name, quarantine, len(samples) + len(rejected))
        return EncodedImages(positions, keys[positions], quarantine, sent)

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
        for part, report in self._run("encode_texts", len(unique), (), lambda a, b: unique[a:b], progress):
            for i, reason in zip(part, report.reasons, strict=True):
                if reason == NOT_STORED:
                    lacking.append(i)
                elif reason is not None and refused is None:
                    raise SemscaleError("a category text cannot be encoded", where=repr(unique[i]), found=reason)
                elif reason is not None:
                    self._bad[text_key(unique[i])] = reason
            sent += report.sent
        if lacking:
            raise NotStoredError("category texts", self._folder, [unique[i] for i in sorted(lacking)], len(unique))
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

    def _run(
        self,
        method: str,
        n: int,
        extra: tuple[Any, ...],
        items: Callable[[int, int], list[str]],
        progress: Progress | None,
    ) -> Iterator[tuple[range, ChunkReport]]:
        """Let the actors pull chunks of the items 0 to n; reports come in any order, each with its place."""
        done = start = 0
        free = [index for index in range(len(self._actors)) for _ in range(CHUNKS)]
        share = Share(self._chunk_size(n), self.batch_size)
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
            self.work.add(report.work)
            yield part, report
            done += len(part)
            free.append(index)
            if progress:
                progress(done, n)

    def _next(self) -> Any:
        """Return a task that is done; meanwhile start the servers if an actor wants one, and say what goes wrong."""
        while True:
            asked = [self._asked] if self._asked is not None else []
            (task, *_), _ = ray.wait([*asked, self._news, *self._running], num_returns=1)
            if task == self._news:
                self._tell(ray.get(task))
            elif task == self._asked and self._start is not None:
                self._asked = None
                ray.get(self._ledger.open.remote(self._start()))
            else:
                return task

    def _tell(self, news: News) -> None:
        self._news = self._ledger.news.remote()
        for line in news.lines:
            self._note(line)
        if news.down and self._revive is not None and (urls := self._revive()):
            ray.get(self._ledger.open.remote(urls))

    def _chunk_size(self, n: int) -> int:
        # small sets are cut finer, so that every actor has work; whole requests either way
        share = math.ceil(n / (CHUNKS * len(self._actors)) / self.batch_size)
        return self.batch_size * min(_REQUESTS_PER_CHUNK, max(1, share))


def _check_bad(dataset: Dataset, quarantine: Mapping[str, str], most: int | None) -> None:
    if most is not None and len(quarantine) > most:
        raise TooManyBadImagesError(dataset.name, quarantine, len(dataset.samples) + len(dataset.rejected), most)


def _by_file(dataset: Dataset, reasons: Mapping[int, str]) -> dict[str, str]:
    return {dataset.samples[i].file: reasons[i] for i in sorted(reasons)}


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
            found=(str(error).strip() or type(error).__name__).splitlines()[0],
            hint="too little memory is the usual reason; give the same command again: what is encoded is kept",
        ) from error
    return report
