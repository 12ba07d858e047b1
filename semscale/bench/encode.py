"""What encoding costs: the server and semscale's own stage against the bare ways, side by side in one run.

    python -m semscale.bench.encode            # 6,000 images; ViT-B-32's geometry too
    python -m semscale.bench.encode --quick    # 200 images, the bundled model alone

Two tables, each way in turn within a round, so that whatever else the machine does hits all of them alike.

Pixels to embeddings, one replica with one thread against open_clip with one thread in this process:
  open_clip       batches of the size that is fastest here
  documents       the server with a document for every picture, as any clip-server takes them
  packed          the server with all pictures of a request in one array

Files to embeddings, a server with two replicas:
  open_clip       in this process, one thread
  clip-client     its own `encode` with the fastest batch size, the files read ahead
  semscale        Ray actors, preprocessing on the worker, embedding store; a fresh store every time
  semscale again  the same with everything in the store
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, cast

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the server has it

import numpy as np
import torch
from clip_client import Client
from docarray import Document, DocumentArray
from numpy.typing import NDArray

from semscale.bench.alone import run_alone
from semscale.datasets.base import Dataset
from semscale.datasets.bundled import load_bundled
from semscale.datasets.registry import load_dataset
from semscale.encoding.client import EncodeClient
from semscale.encoding.encoder import Encoder
from semscale.encoding.handshake import shake_hands
from semscale.encoding.preprocess import Picture, to_ppm
from semscale.models.loading import LoadedModel, load_model
from semscale.models.transforms import PixelReader
from semscale.serving.launcher import launch_server
from semscale.study.cluster import ray_cluster

MODEL = "semscale-mini"
ARCHITECTURE = "ViT-B-32"
SIZES = (16, 32, 64, 128, 256)

Work = Callable[[], object]


def write_images(count: int, root: Path) -> Dataset:
    """Draw shapes into a folder, so that drawing them is nobody's time, and return that folder as a dataset."""
    drawn = load_bundled("shapes", size=count)
    for sample in drawn.samples:
        path = root / sample.true_class / Path(sample.file).name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(drawn.reader.read(sample.file))
    return load_dataset(f"folder:{root}")


def read_all(dataset: Dataset) -> list[bytes]:
    """Return the image files of a dataset."""
    return [dataset.reader.read(sample.file) for sample in dataset.samples]


def random_checkpoint(folder: Path) -> str:
    """Save ViT-B-32 with random weights and return its model name: the geometry counts here, not the numbers."""
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = open_clip.CLIP(**open_clip.get_model_config(ARCHITECTURE))
    path = folder / "random.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, str(path))
    return f"{ARCHITECTURE}::{path}"


def seconds_of(work: Work) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def fastest(sizes: Sequence[int], work: Callable[[int], object]) -> int:
    """Return the size with which the work takes the least time, the better of two tries each."""
    taken = {size: min(seconds_of(partial(work, size)) for _ in range(2)) for size in sizes}
    return min(taken, key=lambda size: taken[size])


def take_turns(ways: Mapping[str, Callable[[int], Work]], rounds: int) -> dict[str, list[float]]:
    """Time every way once per round; a way makes its work of the round's number, outside the clock."""
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds):
        for way, prepare in ways.items():
            taken[way].append(seconds_of(prepare(number)))
    return taken


def rows_of(taken: Mapping[str, Sequence[float]], base: str, count: int) -> list[dict[str, Any]]:
    """Return per way images per second and its rate as a share of the base's in the same round, with the spread."""
    rows = []
    for way, seconds in taken.items():
        shares = [other / mine for mine, other in zip(seconds, taken[base], strict=True)]
        rows.append(
            {
                "way": way,
                "images_per_second": count / statistics.median(seconds),
                "rate_ratio": statistics.median(shares),
                "low": min(shares),
                "high": max(shares),
            }
        )
    return rows


def bare_pixels(loaded: LoadedModel, pixels: NDArray[np.uint8], size: int) -> None:
    """Encode uint8 pixels in this process as open_clip's users do: normalise, encode_image, batch by batch."""
    reader = PixelReader(loaded.preprocess, loaded.identity.image_size)
    encode_image = cast(Callable[[torch.Tensor], torch.Tensor], loaded.model.encode_image)
    with torch.inference_mode():
        for start in range(0, len(pixels), size):
            encode_image(reader.normalise(torch.from_numpy(pixels[start : start + size]))).numpy()


def pixels_table(model: str, files: Sequence[bytes], rounds: int, folder: Path) -> dict[str, Any]:
    """Compare pixels to embeddings for one model."""
    loaded = load_model(model)
    reader = PixelReader(loaded.preprocess, loaded.identity.image_size)
    pixels = np.stack([reader.decode(file) for file in files])
    pictures, documents = list(pixels), [to_ppm(picture) for picture in pixels]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with launch_server(model, replicas=1, num_threads=1, log_file=folder / "one.log") as server:
            quantum = int(server.info["minibatch_size"])

            def through(contents: Sequence[bytes] | Sequence[Picture]) -> None:
                # two connections, as two actors have them: while one writes, the other waits
                async def both() -> None:
                    halves = (contents[: len(contents) // 2], contents[len(contents) // 2 :])
                    clients = [EncodeClient(server.url, quantum=quantum, deadline=600.0) for _ in halves]
                    done = await asyncio.gather(*(c.encode(half) for c, half in zip(clients, halves, strict=True)))
                    assert not any(reason for encoded in done for reason in encoded.reasons)

                asyncio.run(both())

            part = pixels[:512]
            size = fastest([s for s in SIZES if s <= len(part)], lambda size: bare_pixels(loaded, part, size))
            through(pictures[:64])
            taken = take_turns(
                {
                    "open_clip in this process": lambda _: lambda: bare_pixels(loaded, pixels, size),
                    "server, documents": lambda _: lambda: through(documents),
                    "server, packed": lambda _: lambda: through(pictures),
                },
                rounds,
            )
    finally:
        torch.set_num_threads(before)
    return {
        "kind": "pixels",
        "model": model.partition("::")[0],
        "title": f"pixels to embeddings, {model.partition('::')[0]}, {pixels.shape[1]} x {pixels.shape[2]} pixels, "
        f"{len(pixels)} images, one thread; open_clip in batches of {size}",
        "rows": rows_of(taken, "open_clip in this process", len(pixels)),
    }


def files_table(dataset: Dataset, rounds: int, folder: Path) -> dict[str, Any]:
    """Compare image files to embeddings with the bundled model."""
    files = read_all(dataset)
    loaded = load_model(MODEL)
    reader = PixelReader(loaded.preprocess, loaded.identity.image_size)
    before = torch.get_num_threads()

    def bare(number: int) -> Work:
        def work() -> None:
            torch.set_num_threads(1)
            contents = read_all(dataset)
            for start in range(0, len(contents), 64):
                bare_pixels(loaded, np.stack([reader.decode(file) for file in contents[start : start + 64]]), 64)
            torch.set_num_threads(before)

        return work

    with ExitStack() as stack:
        server = stack.enter_context(launch_server(MODEL, replicas=2, log_file=folder / "two.log"))
        client = Client(server.url)

        def plain(contents: Sequence[bytes], size: int) -> None:
            client.encode(DocumentArray([Document(blob=file) for file in contents]), batch_size=size)

        size = fastest(SIZES, lambda size: plain(files[:1000], size))

        def ours(number: int, again: bool) -> Work:
            store = folder / f"store-{number}"
            identity = shake_hands([server.url], MODEL, store)
            encoder = stack.enter_context(Encoder(identity, [server.url], store))
            # the actors' start is a fixed cost of a sweep and not one of an image
            encoder.wait_for_actors()

            def work() -> None:
                encoder.encode_images(dataset)
                encoder.close()

            return work

        taken = take_turns(
            {
                "open_clip in this process": bare,
                "clip-client": lambda _: lambda: plain(files, size),
                "semscale": lambda number: ours(number, again=False),
                "semscale again": lambda number: ours(number, again=True),
            },
            rounds,
        )
    return {
        "kind": "files",
        "model": MODEL,
        "title": f"files to embeddings, {MODEL}, {len(files)} images, two replicas; clip-client in batches of {size}",
        "rows": rows_of(taken, "clip-client", len(files)),
    }


def measure(quick: bool, rounds: int | None = None) -> dict[str, Any]:
    """Return images per second and ratios of every way, see the top of this file."""
    rounds = rounds or (1 if quick else 5)
    with tempfile.TemporaryDirectory() as name, ray_cluster(None):
        folder = Path(name)
        dataset = write_images(200 if quick else 6000, folder / "shapes")
        files = read_all(dataset)
        tables = [pixels_table(MODEL, files[:3000], rounds, folder)]
        if not quick:
            tables.append(pixels_table(random_checkpoint(folder), files[:64], rounds, folder))
        tables.append(files_table(dataset, rounds, folder))
    return {"rounds": rounds, "cores": os.cpu_count(), "tables": tables}


def markdown(result: Mapping[str, Any]) -> str:
    """Return the result as tables; a ratio above 1 is faster than the first way it is held against."""
    lines = [f"{result['rounds']} rounds, {result['cores']} cores; ratio of rates: median (lowest to highest round)"]
    for table in result["tables"]:
        lines += ["", table["title"], "", "| way | images/s | ratio | range |", "|---|---|---|---|"]
        lines += [
            f"| {row['way']} | {row['images_per_second']:.0f} | {row['rate_ratio']:.2f} "
            f"| {row['low']:.2f} to {row['high']:.2f} |"
            for row in table["rows"]
        ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark, print Markdown and one line of JSON."""
    return run_alone(__doc__, "200 images, one round", measure, markdown, arguments)


if __name__ == "__main__":
    main()
