"""Reading datasets: every loader against bare Pillow on the same pictures, and the listing of a million samples.

Reading: one thread, from file to decoded pixels, SHA-256 included, as an encoding actor does it, 400 pictures
(quick: 40). Listing: `load_dataset` of 1,000,000 samples in webdataset shards (quick: 20,000) in a new process, whose
peak memory is compared with that of a short listing.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from semscale.datasets.dataset import Dataset
from semscale.datasets.image_decoding import decode
from semscale.datasets.loader_registry import load_dataset

from .harness import Row, interleave, ratios, row

CLASSES = ("cat", "dog", "emu", "fox")
PER_SHARD = 10_000
# deflating makes no picture smaller: without a target
NO_TARGET = ("zip, deflated", "tar.gz")


def measure(quick: bool) -> list[Row]:
    """Return each loader's rate as a share of bare Pillow's, and speed and memory of a long listing."""
    pictures = photographs(40 if quick else 400)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        datasets = lay_out(pictures, root)
        ways: dict[str, Callable[[], None]] = {"bare": partial(read_bare, root / "photos", list(pictures))}
        ways |= {name: partial(read, dataset) for name, dataset in datasets.items()}
        taken = interleave(ways, 3 if quick else 7)
    rows = [
        row(
            f"reading {name}, rate against bare Pillow",
            ratios(taken["bare"], taken[name]),
            least=None if name in NO_TARGET else 0.9,
        )
        for name in datasets
    ]
    per_second, mebibytes = list_long(20_000 if quick else 1_000_000)
    return [
        *rows,
        row("listing webdataset shards, samples per second", [per_second]),
        row("listing webdataset shards, MiB beyond a short listing", [mebibytes]),
    ]


def photographs(n: int) -> dict[str, bytes]:
    """Draw n pictures of 800 x 600 with the detail of a photograph, as JPEG files of about 150 kB."""
    rng = np.random.default_rng(0)
    pictures = {}
    for i in range(n):
        coarse = rng.integers(0, 256, (38, 50, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((800, 600), Image.Resampling.BICUBIC)
        noise = rng.normal(0, 12, (600, 800, 3))
        buffer = io.BytesIO()
        Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=88)
        pictures[f"{CLASSES[i % len(CLASSES)]}/{i:05}.jpg"] = buffer.getvalue()
    return pictures


def lay_out(pictures: dict[str, bytes], root: Path) -> dict[str, Dataset]:
    """Write the pictures in every form, and open each."""
    folder = root / "photos"
    for name, content in pictures.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    for archive, method in (("photos.zip", zipfile.ZIP_STORED), ("deflated.zip", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(root / archive, "w", method) as file:
            for name, content in pictures.items():
                file.writestr(name, content)
    with tarfile.open(root / "photos.tar", "w") as plain, tarfile.open(root / "photos.tar.gz", "w:gz") as packed:
        for name, content in pictures.items():
            _add(plain, name, content)
            _add(packed, name, content)
    with (root / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "class"), *((name, name.partition("/")[0]) for name in pictures)])
    write_shards(root / "shards", [(name.replace("/", "_")[:-4], content) for name, content in pictures.items()])
    label = pa.array([CLASSES.index(name.partition("/")[0]) for name in pictures])
    image = pa.array([{"bytes": content, "path": name} for name, content in pictures.items()])
    features = {"label": {"_type": "ClassLabel", "names": list(CLASSES)}, "image": {"_type": "Image"}}
    schema = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table({"image": image, "label": label}).replace_schema_metadata(schema)
    pq.write_table(table, root / "photos.parquet", row_group_size=100)
    specs = {
        "folder": f"folder:{folder}",
        "zip": f"zip:{root / 'photos.zip'}",
        "zip, deflated": f"zip:{root / 'deflated.zip'}",
        "tar": f"tar:{root / 'photos.tar'}",
        "tar.gz": f"tar:{root / 'photos.tar.gz'}",
        "table": f"table:{root / 'table.csv'}",
        "webdataset": f"webdataset:{root / 'shards'}/000000.tar",
        "parquet": f"parquet:{root / 'photos.parquet'}",
    }
    return {name: load_dataset(spec, images=str(folder) if name == "table" else None) for name, spec in specs.items()}


def write_shards(folder: Path, samples: list[tuple[str, bytes]]) -> None:
    """Write webdataset shards of 10,000 samples, the class a word in `.cls`."""
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(samples), PER_SHARD):
        with tarfile.open(folder / f"{start // PER_SHARD:06}.tar", "w") as tar:
            for i, (name, content) in enumerate(samples[start : start + PER_SHARD], start):
                _add(tar, f"{name}.jpg", content)
                _add(tar, f"{name}.cls", CLASSES[i % len(CLASSES)].encode())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def read_bare(folder: Path, names: list[str]) -> None:
    """Decode files with Pillow and nothing else."""
    for name in names:
        Image.open(folder / name).load()


def read(dataset: Dataset) -> None:
    """Read, hash and decode as an encoding actor does."""
    for location in dataset.samples.locations():
        content = dataset.reader.read(location)
        hashlib.sha256(content).digest()
        decode(content)


_LIST = """
import resource, sys, time
from semscale.datasets.loader_registry import load_dataset
load_dataset(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
dataset = load_dataset(sys.argv[2])
seconds = time.perf_counter() - start
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(dataset.samples) / seconds, (after - before) / 1024)
"""


def list_long(n: int) -> tuple[float, float]:
    """List a long webdataset in a new process; return samples per second and MiB of memory beyond a short listing."""
    content = photographs(1).popitem()[1][:400]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_shards(root / "short", [(f"{i:08}", content) for i in range(100)])
        write_shards(root / "long", [(f"{i:08}", content) for i in range(n)])
        last = (n - 1) // PER_SHARD
        shards = f"{{000000..{last:06}}}" if last else "000000"
        arguments = [f"webdataset:{root}/short/000000.tar", f"webdataset:{root}/long/{shards}.tar"]
        done = subprocess.run([sys.executable, "-c", _LIST, *arguments], check=True, capture_output=True, text=True)
    per_second, mebibytes = map(float, done.stdout.split())
    return per_second, mebibytes
