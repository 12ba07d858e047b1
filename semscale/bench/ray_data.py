"""Ray Data's `map_batches` with an actor pool against the plain actors, for the encoding stage.

    python -m semscale.bench.ray_data            # 6,000 images
    python -m semscale.bench.ray_data --quick    # 200 images

Both read, hash, decode, resize, send packed and write segments with the same code; in turn within a round, through one
server with two replicas. The plain actors also claim every image in the ledger, which the Ray Data variant leaves out,
so it is the easier of the two. Ray Data starts its pool with every execution and the clock sees that; plain actors are
started outside the clock and, in a third row, inside it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import ray
from numpy.typing import NDArray

from semscale.bench.alone import run_alone
from semscale.bench.encode import MODEL, Work, markdown, rows_of, take_turns, write_images
from semscale.datasets.base import Reader
from semscale.datasets.picture import decode
from semscale.encoding.client import EncodeClient
from semscale.encoding.encoder import Encoder
from semscale.encoding.handshake import shake_hands
from semscale.encoding.identity import EncoderIdentity
from semscale.encoding.preprocess import prepare
from semscale.encoding.segment import write_segment
from semscale.encoding.store import EmbeddingStore
from semscale.serving.launcher import launch_server
from semscale.study.cluster import ray_cluster

ROWS = 256
ACTORS = 2


class BatchEncoder:
    """What `map_batches` calls: file names in, stored keys out."""

    def __init__(self, url: str, identity: EncoderIdentity, reader: Reader, folder: Path) -> None:
        self._identity, self._reader, self._folder = identity, reader, folder
        self._client = EncodeClient(url, quantum=identity.minibatch)

    def __call__(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Encode one batch of files."""
        spec = self._identity.preprocess
        assert spec is not None
        contents = [self._reader.read(str(file)) for file in batch["item"]]
        keys = [hashlib.sha256(content).digest() for content in contents]
        encoded = asyncio.run(self._client.encode([prepare(decode(content), spec) for content in contents]))
        write_segment(self._folder, keys, encoded.embeddings)
        return {"sha256": np.array(keys)}


def measure(quick: bool, rounds: int | None = None) -> dict[str, Any]:
    """Return images per second of both variants."""
    rounds = rounds or (1 if quick else 5)
    with tempfile.TemporaryDirectory() as name, ray_cluster(None):
        folder = Path(name)
        dataset = write_images(200 if quick else 6000, folder / "shapes")
        files = [sample.file for sample in dataset.samples]
        with launch_server(MODEL, replicas=2, log_file=folder / "server.log") as server:
            context = ray.data.DataContext.get_current()
            context.enable_progress_bars = False

            def plain(number: int, kind: str) -> Work:
                store = folder / f"{kind}-{number}"
                identity = shake_hands([server.url], MODEL, store)

                def start() -> Encoder:
                    encoder = Encoder(identity, [server.url], store, actors=ACTORS)
                    if kind == "ready":
                        encoder.wait_for_actors()
                    return encoder

                started = start() if kind == "ready" else None

                def work() -> None:
                    with started or start() as encoder:
                        assert encoder.encode_images(dataset).sent == len(files)

                return work

            def data(number: int) -> Work:
                store = folder / f"data-{number}"
                identity = shake_hands([server.url], MODEL, store)
                target = store / identity.fingerprint / "image"

                def work() -> None:
                    ray.data.from_items(files, override_num_blocks=max(ACTORS, len(files) // ROWS)).map_batches(
                        BatchEncoder,
                        fn_constructor_args=(server.url, identity, dataset.reader, target),
                        batch_size=ROWS,
                        num_cpus=0.5,
                        compute=ray.data.ActorPoolStrategy(size=ACTORS, max_tasks_in_flight_per_actor=2),
                    ).materialize()
                    assert len(EmbeddingStore(target)) == len(files)

                return work

            taken = take_turns(
                {
                    "plain actors, started before": lambda number: plain(number, "ready"),
                    "plain actors, started within": lambda number: plain(number, "cold"),
                    "Ray Data, started within": data,
                },
                rounds,
            )
    title = f"files to the store, {MODEL}, {len(files)} images, {ACTORS} actors, two replicas"
    rows = rows_of(taken, "plain actors, started within", len(files))
    return {"rounds": rounds, "cores": os.cpu_count(), "tables": [{"title": title, "rows": rows}]}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark, print Markdown and one line of JSON."""
    return run_alone(__doc__, "200 images, one round", measure, markdown, arguments)


if __name__ == "__main__":
    main()
