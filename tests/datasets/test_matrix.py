"""The same 200 images through every loader: one set of (SHA-256 of the content, class)."""

from __future__ import annotations

import csv
import hashlib
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made import put, tarred_up, zipped

from semscale.datasets.dataset import Dataset
from semscale.datasets.loader_registry import load_dataset

N = 200
Contents = dict[str, bytes]
Write = Callable[[Path, Contents], Dataset]


@pytest.fixture(scope="module")
def contents() -> Contents:
    """200 bundled shapes as <class>/<number>.png."""
    dataset = load_dataset("shapes", limit=N)
    return {f"{s.true_class}/{i:04}.png": dataset.reader.read(s.location) for i, s in enumerate(dataset.samples)}


def folder(root: Path, contents: Contents) -> Dataset:
    put(root / "photos", contents)
    return load_dataset(f"folder:{root / 'photos'}")


def flat_folder(root: Path, contents: Contents) -> Dataset:
    put(root, {name.replace("/", "_"): content for name, content in contents.items()})
    return load_dataset(f"folder:{root}", class_from="{class}_{number}.png")


def zip_archive(method: int) -> Write:
    def write(root: Path, contents: Contents) -> Dataset:
        packed = {f"photos/{name}": content for name, content in contents.items()}
        return load_dataset(f"zip:{zipped(root / 'x.zip', packed, method)}")

    return write


def tar_archive(ending: str) -> Write:
    def write(root: Path, contents: Contents) -> Dataset:
        members = [(f"photos/{name}", content) for name, content in contents.items()]
        return load_dataset(f"tar:{tarred_up(root / f'x.tar{ending}', *members)}")

    return write


def webdataset(root: Path, contents: Contents) -> Dataset:
    items = list(contents.items())
    for shard in range(4):
        members = []
        for name, content in items[shard::4]:
            meta = json.dumps({"meta": {"class": Path(name).parent.name}}).encode()
            members += [(f"{Path(name).stem}.png", content), (f"{Path(name).stem}.json", meta)]
        tarred_up(root / f"{shard:03}.tar", *members)
    return load_dataset(f"webdataset:{root}/{{000..003}}.tar", label="meta.class")


def table(ending: str) -> Write:
    def write(root: Path, contents: Contents) -> Dataset:
        folder(root, contents)
        rows = [{"image": name, "class": name.partition("/")[0]} for name in contents]
        path = root / f"table{ending}"
        if ending == ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        elif ending == ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        else:
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, rows[0], delimiter="\t" if ending == ".tsv" else ",")
                writer.writeheader()
                writer.writerows(rows)
        return load_dataset(f"table:{path}", images=str(root / "photos"))

    return write


def classes_of(contents: Contents) -> list[str]:
    return sorted({name.partition("/")[0] for name in contents})


def parquet(root: Path, contents: Contents) -> Dataset:
    names = classes_of(contents)
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
    rows = [
        {"image": {"bytes": content, "path": name}, "label": names.index(name.partition("/")[0])}
        for name, content in contents.items()
    ]
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(pa.Table.from_pylist(rows).replace_schema_metadata(metadata), root / "x.parquet", row_group_size=64)
    return load_dataset(f"parquet:{root / 'x.parquet'}")


def huggingface(root: Path, contents: Contents) -> Dataset:
    datasets = pytest.importorskip("datasets")
    names = classes_of(contents)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    rows = {
        "image": [{"bytes": content, "path": name} for name, content in contents.items()],
        "label": [names.index(name.partition("/")[0]) for name in contents],
    }
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(root / "saved"))
    return load_dataset(f"hf:{root / 'saved'}")


def torchvision(root: Path, contents: Contents) -> Dataset:
    folder(root, contents)
    return load_dataset("torchvision:ImageFolder", images=str(root / "photos"))


WAYS: dict[str, Write] = {
    "folder": folder,
    "folder by rule": flat_folder,
    **{
        f"zip {method}": zip_archive(method) for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
    },
    **{f"tar{ending}": tar_archive(ending) for ending in ("", ".gz")},
    "webdataset": webdataset,
    **{f"table{ending}": table(ending) for ending in (".csv", ".tsv", ".jsonl", ".parquet")},
    "parquet": parquet,
    "hf": huggingface,
    "torchvision": torchvision,
}


@pytest.mark.parametrize("way", WAYS)
def test_every_loader_gives_the_same_images_and_classes(way: str, tmp_path: Path, contents: Contents) -> None:
    dataset = WAYS[way](tmp_path, contents)
    expected = {(hashlib.sha256(content).hexdigest(), name.partition("/")[0]) for name, content in contents.items()}
    reader = pickle.loads(pickle.dumps(dataset.reader))  # as a worker gets it
    found = {
        (hashlib.sha256(reader.read(sample.location)).hexdigest(), sample.true_class) for sample in dataset.samples
    }
    assert found == expected
    assert len(dataset.samples) == N
    assert list(dataset.classes) == classes_of(contents)
    assert not dataset.rejected
