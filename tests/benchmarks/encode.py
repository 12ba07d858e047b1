"""Encoding: the server and semscale's encoding stage against the bare ways.

Pixels to embeddings: one server process with one thread against open_clip with one thread in this process, for the
bundled model and (not quick) for ViT-B-32 with random weights. Files to embeddings: semscale's actors with a fresh
store against clip-client's own `encode` with its fastest batch size, through a server with two replicas.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import cast

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the server has it

import numpy as np
import ray
import torch
from clip_client import Client
from docarray import Document, DocumentArray
from numpy.typing import NDArray

from semscale.cluster.connection import ray_cluster
from semscale.datasets.bundled import bundled_listing
from semscale.datasets.dataset import Dataset
from semscale.datasets.loader_registry import load_dataset
from semscale.encoding.client import EncodeClient
from semscale.encoding.distributed_encoder import DistributedEncoder
from semscale.encoding.server_discovery import Servers
from semscale.encoding.verification import identify_encoder
from semscale.models.loading import LoadedModel, load_model
from semscale.models.model_encoder import BatchEncoder
from semscale.serving.launcher import launch_server

from .harness import Row, interleave, ratios, row, seconds_of

MODEL = "semscale-mini"
ARCHITECTURE = "ViT-B-32"
BATCH_SIZES = (16, 32, 64, 128, 256)


def measure(quick: bool) -> list[Row]:
    """Return the rates of the server and of semscale as shares of the bare ways'."""
    rounds = 1 if quick else 5
    with tempfile.TemporaryDirectory() as name, ray_cluster(None):
        folder = Path(name)
        dataset = write_images(200 if quick else 6000, folder / "shapes")
        files = [dataset.reader.read(sample.file) for sample in dataset.samples]
        rows = [server_rate(MODEL, files[:3000], rounds, folder)]
        if not quick:
            rows.append(server_rate(random_checkpoint(folder), files[:64], rounds, folder))
        return [*rows, client_rate(dataset, files, rounds, folder)]


def write_images(count: int, root: Path) -> Dataset:
    """Write shapes into a folder, outside of any clock, and return it as a dataset."""
    drawn = bundled_listing("shapes", "test", size=count)
    for entry in drawn.entries:
        path = root / str(entry.label) / Path(entry.file).name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(drawn.reader.read(entry.file))
    return load_dataset(f"folder:{root}")


def random_checkpoint(folder: Path) -> str:
    """Save ViT-B-32 with random weights and return its model name: only the geometry matters here."""
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = open_clip.CLIP(**open_clip.get_model_config(ARCHITECTURE))
    path = folder / "random.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, str(path))
    return f"{ARCHITECTURE}::{path}"


def fastest(work: Callable[[int], object], sizes: Sequence[int] = BATCH_SIZES) -> int:
    """Return the batch size with which the work takes the least time, the better of two tries each."""
    return min(sizes, key=lambda size: min(seconds_of(partial(work, size)) for _ in range(2)))


def encode_bare(loaded: LoadedModel, pixels: NDArray[np.uint8], size: int) -> None:
    """Encode uint8 pixels in this process as open_clip's users do: normalise, encode_image, batch by batch."""
    transform = BatchEncoder(loaded).transform
    encode_image = cast(Callable[[torch.Tensor], torch.Tensor], loaded.model.encode_image)
    with torch.inference_mode():
        for start in range(0, len(pixels), size):
            encode_image(transform.normalise(torch.from_numpy(pixels[start : start + size]))).numpy()


def server_rate(model: str, files: Sequence[bytes], rounds: int, folder: Path) -> Row:
    """Compare pixels to embeddings for one model."""
    loaded = load_model(model)
    transform = BatchEncoder(loaded).transform
    pixels = np.stack([transform.decode(file) for file in files])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with launch_server(model, replicas=1, num_threads=1, log_file=folder / "one.log") as server:
            minibatch = BatchEncoder(loaded).minibatch_size

            async def encode(pictures: Sequence[NDArray[np.uint8]]) -> None:
                # two connections, as two actors have them: while one writes, the other waits
                halves = (pictures[: len(pictures) // 2], pictures[len(pictures) // 2 :])
                clients = [EncodeClient(server.url, minibatch=minibatch, deadline=600.0) for _ in halves]
                done = await asyncio.gather(*(c.encode(half) for c, half in zip(clients, halves, strict=True)))
                assert not any(reason for encoded in done for reason in encoded.reasons)

            part = pixels[:512]
            size = fastest(partial(encode_bare, loaded, part), [s for s in BATCH_SIZES if s <= len(part)])
            asyncio.run(encode(list(pixels[:64])))
            taken = interleave(
                {
                    "bare": partial(encode_bare, loaded, pixels, size),
                    "server": lambda: asyncio.run(encode(list(pixels))),
                },
                rounds,
            )
    finally:
        torch.set_num_threads(threads)
    name = model.partition("::")[0]
    return row(f"server's rate against bare open_clip, {name}", ratios(taken["bare"], taken["server"]), least=0.85)


def client_rate(dataset: Dataset, files: Sequence[bytes], rounds: int, folder: Path) -> Row:
    """Compare image files to embeddings with the bundled model."""
    ours, theirs = [], []
    with ExitStack() as stack:
        server = stack.enter_context(launch_server(MODEL, replicas=2, log_file=folder / "two.log"))
        client = Client(server.url)

        def encode_plain(size: int, contents: Sequence[bytes] = files) -> None:
            client.encode(DocumentArray([Document(blob=file) for file in contents]), batch_size=size)

        size = fastest(partial(encode_plain, contents=files[:1000]))
        for number in range(rounds):
            theirs.append(seconds_of(partial(encode_plain, size)))
            store = folder / f"store-{number}"
            identity = identify_encoder(Servers([server.url]), MODEL, store)
            with DistributedEncoder(identity, Servers([server.url]), store) as encoder:
                # their start is a fixed cost of a study, not one of an image
                ray.get([actor.__ray_ready__.remote() for actor in encoder._actors])
                ours.append(seconds_of(partial(encoder.encode_images, dataset)))
    return row(f"semscale's rate against clip-client's, {MODEL}", ratios(theirs, ours))
