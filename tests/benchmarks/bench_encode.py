"""What encoding costs: semscale's actors and store against the bare ways, side by side in one run.

    python tests/benchmarks/bench_encode.py            # all bundled test images
    python tests/benchmarks/bench_encode.py --quick    # 200 images

Ways, each from image files on disk to embeddings of all images, in turn, `rounds` times:
  bare model      open_clip in this process, threads as one server with one replica has
  bare client     clip-client's own encode of the same files through the same server, batch size 64
  semscale        Ray actors, preprocessing on the worker, embedding store; a fresh store every time
  semscale again  the same with everything in the store
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from clip_client import Client
from docarray import Document, DocumentArray

from semscale.datasets.base import Dataset
from semscale.datasets.picture import decode
from semscale.datasets.registry import load_dataset
from semscale.encoding.encoder import Encoder
from semscale.encoding.handshake import shake_hands
from semscale.serving.launcher import launch_server
from semscale.serving.mini import load_mini
from semscale.sweep.cluster import ray_cluster

MODEL = "semscale-mini"


def write_images(limit: int | None, root: Path) -> list[Dataset]:
    """Draw the bundled datasets into folders, so that drawing them is nobody's time, and return those."""
    datasets = []
    for name in ("digits", "shapes"):
        drawn = load_dataset(name, limit=limit)
        for number, sample in enumerate(drawn.samples):
            path = root / name / sample.true_class / f"{number:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(drawn.reader.read(sample.file))
        datasets.append(load_dataset(f"folder:{root / name}"))
    return datasets


def read_all(datasets: list[Dataset]) -> list[bytes]:
    """Return the image files of the datasets."""
    return [dataset.reader.read(sample.file) for dataset in datasets for sample in dataset.samples]


def bare_model(datasets: list[Dataset], threads: int) -> Callable[[], object]:
    """Encode in this process in batches of 64."""
    model, preprocess, _ = load_mini()

    def work() -> None:
        torch.set_num_threads(threads)
        contents = read_all(datasets)
        with torch.inference_mode():
            for start in range(0, len(contents), 64):
                model.encode_image(torch.stack([preprocess(decode(file)) for file in contents[start : start + 64]]))

    return work


def bare_client(datasets: list[Dataset], url: str) -> Callable[[], object]:
    """Encode through the server with nothing but clip-client."""
    client = Client(url)
    return lambda: client.encode(DocumentArray([Document(blob=file) for file in read_all(datasets)]), batch_size=64)


def measure(limit: int | None, rounds: int) -> dict[str, Any]:
    """Return seconds and ratios of each way; every ratio is against the bare client of the same round."""
    taken: dict[str, list[float]] = {}

    def clock(way: str, work: Callable[[], object]) -> None:
        start = time.perf_counter()
        work()
        taken.setdefault(way, []).append(time.perf_counter() - start)

    with (
        tempfile.TemporaryDirectory() as folder,
        ray_cluster(None),
        launch_server(MODEL, replicas=2, log_file=Path(folder) / "server.log") as server,
    ):
        datasets = write_images(limit, Path(folder))
        images = sum(len(dataset.samples) for dataset in datasets)
        plain_model = bare_model(datasets, threads=1)
        plain_client = bare_client(datasets, server.url)
        for number in range(rounds):
            store = Path(folder) / f"store-{number}"
            identity = shake_hands([server.url], MODEL, store)
            clock("bare model, 1 thread", plain_model)
            clock("bare client", plain_client)
            for way in ("semscale", "semscale again"):
                with Encoder(identity, [server.url], store) as encoder:
                    # the actors' start is a fixed cost of a sweep and not one of an image
                    encoder.encode_texts(["warm up", "the actors"])
                    clock(way, lambda: [encoder.encode_images(dataset) for dataset in datasets])
    base = taken["bare client"]
    return {
        "images": images,
        "rounds": rounds,
        "cores": os.cpu_count(),
        "rows": [
            {
                "way": way,
                "images_per_second": images / statistics.median(seconds),
                "ratio": statistics.median(mine / other for mine, other in zip(seconds, base, strict=True)),
                "ratio_low": min(mine / other for mine, other in zip(seconds, base, strict=True)),
                "ratio_high": max(mine / other for mine, other in zip(seconds, base, strict=True)),
            }
            for way, seconds in taken.items()
        ],
    }


def markdown(result: dict[str, Any]) -> str:
    """Return the result as a table."""
    lines = [
        f"{result['images']} images, {result['rounds']} rounds, {result['cores']} cores",
        "",
        "| way | images/s | time / bare client | range |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row['way']} | {row['images_per_second']:.0f} | {row['ratio']:.2f} "
        f"| {row['ratio_low']:.2f} to {row['ratio_high']:.2f} |"
        for row in result["rows"]
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark, print Markdown and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200 images")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    result = measure(100 if options.quick else None, options.rounds)
    print(markdown(result))
    print(json.dumps(result))
    return result


if __name__ == "__main__":
    main()
