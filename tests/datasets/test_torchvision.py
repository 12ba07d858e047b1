"""Torchvision datasets, written here in their on-disk formats and opened by torchvision's classes."""

from __future__ import annotations

import gzip
import hashlib
import inspect
import io
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from made import put, served
from PIL import Image

from semscale.common.errors import SemscaleError
from semscale.datasets.hubs.torchvision import DATASETS
from semscale.datasets.loader_registry import load_dataset

tv = pytest.importorskip("torchvision.datasets")

RNG = np.random.default_rng(0)


def jpeg(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 9, 3), number, np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def put_one(path: Path, content: bytes) -> None:
    put(path.parent, {path.name: content})


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Write CIFAR-10 with four images per file, patch its checksums, and return the test images."""
    folder = tmp_path / "cifar-10-batches-py"
    pixels = RNG.integers(0, 256, (6, 4, 3072), np.uint8)

    def batch(name: str, content: object) -> list[str]:
        data = pickle.dumps(content)
        put_one(folder / name, data)
        return [name, hashlib.md5(data, usedforsecurity=False).hexdigest()]

    train = [batch(f"data_batch_{i}", {"data": pixels[i], "labels": [0, 1, 2, 9]}) for i in range(1, 6)]
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    meta = batch("batches.meta", {"label_names": names})
    monkeypatch.setattr(tv.CIFAR10, "train_list", train)
    monkeypatch.setattr(tv.CIFAR10, "test_list", [batch("test_batch", {"data": pixels[0], "labels": [9, 3, 3, 0]})])
    monkeypatch.setattr(tv.CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": meta[1]})
    return pixels[0].reshape(4, 3, 32, 32).transpose(0, 2, 3, 1)


def test_arrays_become_the_same_png_of_their_pixels(tmp_path: Path, cifar: np.ndarray) -> None:
    dataset = load_dataset("torchvision:cifar10", images=str(tmp_path))
    assert dataset.name == "cifar10"
    assert dataset.notes[0] == "of the splits train, test only 'test' is read; split: chooses another"
    assert [(one.file, one.true_class) for one in dataset.samples] == [
        ("CIFAR10/test/000000.png", "truck"),
        ("CIFAR10/test/000001.png", "cat"),
        ("CIFAR10/test/000002.png", "cat"),
        ("CIFAR10/test/000003.png", "airplane"),
    ]
    assert dataset.classes[:2] == ("airplane", "automobile")
    for location, pixels in zip(dataset.samples.locations(), cifar, strict=True):
        content = dataset.reader.read(location)
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), pixels)
        assert content == pickle.loads(pickle.dumps(dataset.reader)).read(location)
    assert len(pickle.dumps(dataset.reader)) < 1000
    assert len(load_dataset("torchvision:CIFAR10:train", images=str(tmp_path)).samples) == 20
    assert len(load_dataset("torchvision:CIFAR10", split="all", images=str(tmp_path)).samples) == 24


@pytest.fixture
def mnist(tmp_path: Path) -> np.ndarray:
    """Write MNIST with five images per split as IDX files, and return the test images."""
    halves = {"train": RNG.integers(0, 256, (5, 28, 28), np.uint8), "t10k": RNG.integers(0, 256, (5, 28, 28), np.uint8)}
    for half, pixels in halves.items():
        folder = tmp_path / "MNIST" / "raw"
        put_one(folder / f"{half}-images-idx3-ubyte", struct.pack(">IIII", 0x803, *pixels.shape) + pixels.tobytes())
        put_one(folder / f"{half}-labels-idx1-ubyte", struct.pack(">II", 0x801, 5) + bytes([7, 2, 1, 0, 7]))
    return halves["t10k"]


def test_grey_arrays_are_read_by_a_worker(tmp_path: Path, mnist: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMSCALE_TORCHVISION", str(tmp_path))
    dataset = load_dataset("torchvision:MNIST:test")
    assert [sample.true_class for sample in dataset.samples][:2] == ["7 - seven", "2 - two"]
    reader = pickle.loads(pickle.dumps(dataset.reader))
    contents = [reader.read(location) for location in dataset.samples.locations()]
    shown = [np.asarray(Image.open(io.BytesIO(content)).convert("L")) for content in contents]
    assert np.array_equal(shown, mnist)


def test_a_dataset_of_files_gives_the_files_unchanged(tmp_path: Path) -> None:
    for number, name in enumerate(("Forest", "River", "River")):
        put_one(tmp_path / "eurosat" / "2750" / name / f"{name}_{number}.jpg", jpeg(number))
    dataset = load_dataset("torchvision:EuroSAT", images=str(tmp_path))
    assert dataset.classes == ("Forest", "River")
    assert dataset.samples.files() == [
        "eurosat/2750/Forest/Forest_0.jpg", "eurosat/2750/River/River_1.jpg", "eurosat/2750/River/River_2.jpg"
    ]  # fmt: skip
    assert [dataset.reader.read(location) for location in dataset.samples.locations()] == [jpeg(i) for i in range(3)]
    with pytest.raises(SemscaleError, match="the dataset has no splits"):
        load_dataset("torchvision:EuroSAT:test", images=str(tmp_path))


def test_attributes_with_files_and_labels_are_detected(tmp_path: Path) -> None:
    for split, files in {
        "train": ["braided/1", "dotted/2"],
        "val": ["dotted/3"],
        "test": ["braided/4", "dotted/5"],
    }.items():
        lines = "".join(f"{file}.jpg\n" for file in files)
        put_one(tmp_path / "dtd" / "dtd" / "labels" / f"{split}1.txt", lines.encode())
        for file in files:
            put_one(tmp_path / "dtd" / "dtd" / "images" / f"{file}.jpg", jpeg(int(file[-1])))
    texture = load_dataset("torchvision:dtd", images=str(tmp_path))
    assert [(one.file, one.true_class) for one in texture.samples] == [
        ("dtd/dtd/images/braided/4.jpg", "braided"),
        ("dtd/dtd/images/dotted/5.jpg", "dotted"),
    ]
    assert texture.reader.read(texture.samples[1].location) == jpeg(5)

    rows = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n"
    for number, owner in enumerate((16, 1)):
        put_one(tmp_path / "gtsrb" / "GTSRB" / "Final_Test" / "Images" / f"{number}.ppm", jpeg(number))
        rows += f"{number}.ppm;9;8;0;0;9;8;{owner}\n"
    put_one(tmp_path / "gtsrb" / "GT-final_test.csv", rows.encode())
    signs = load_dataset("torchvision:GTSRB:test", images=str(tmp_path))
    assert [sample.true_class for sample in signs.samples] == ["16", "1"]
    assert any("2 class names are meaningless to a model (1, 16)" in note for note in signs.notes)


def test_a_missing_image_is_rejected_alone(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        put_one(tmp_path / name / "1.png", jpeg(1))
        put_one(tmp_path / name / "2.png", jpeg(2))
    dataset = load_dataset("torchvision:ImageFolder", images=str(tmp_path))
    (tmp_path / "cat" / "1.png").unlink()
    assert dataset.reader.read("dog/1.png") == jpeg(1)
    with pytest.raises(OSError, match="No such file"):
        dataset.reader.read("cat/1.png")


def test_the_first_of_several_synonyms_is_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for wnid in tv.Imagenette._WNID_TO_CLASS:
        put_one(tmp_path / "imagenette2" / "val" / wnid / "1.JPEG", jpeg(1))
        put_one(tmp_path / "imagenette2" / "train" / wnid / "1.JPEG", jpeg(1))
    dataset = load_dataset("torchvision:imagenette", images=str(tmp_path))
    assert dataset.classes[:3] == ("tench", "English springer", "cassette player")


def test_a_dataset_without_paths_is_read_by_its_items(tmp_path: Path) -> None:
    folder = tmp_path / "caltech101" / "101_ObjectCategories"
    for number, name in enumerate(("accordion", "airplanes")):
        put_one(folder / name / "image_0001.jpg", jpeg(number))
        (tmp_path / "caltech101" / "Annotations" / name).mkdir(parents=True)
    put_one(folder / "BACKGROUND_Google" / "image_0001.jpg", jpeg(9))
    dataset = load_dataset("torchvision:Caltech101", images=str(tmp_path))
    assert [sample.true_class for sample in dataset.samples] == ["accordion", "airplanes"]
    pixels = np.asarray(Image.open(io.BytesIO(dataset.reader.read(dataset.samples[1].location))))
    assert np.array_equal(pixels, np.asarray(Image.open(io.BytesIO(jpeg(1)))))


def test_the_table_of_datasets_matches_torchvision() -> None:
    for name, splits in DATASETS.items():
        bases = getattr(tv, name).__mro__
        known = {one for base in bases if "__init__" in vars(base) for one in inspect.signature(base).parameters}
        assert all(set(arguments) <= known for arguments in splits.values()), name
        assert ("download" in known) == (name not in ("FER2013", "ImageFolder", "ImageNet")), name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cifar11", "did you mean CIFAR10 or CIFAR100"),
        ("VOCDetection", "no such image classification dataset"),
        ("Food101:extra", "no such split"),
        ("ImageFolder", "cannot be opened"),
    ],
)
def test_unreadable_datasets_are_user_errors(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(SemscaleError, match=words):
        load_dataset(f"torchvision:{name}", images=str(tmp_path))


def test_files_that_cannot_be_downloaded_are_a_user_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tv.KMNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(SemscaleError, match="cannot be opened or downloaded") as caught:
        load_dataset("torchvision:KMNIST", images=str(tmp_path))
    assert "Connection refused" in str(caught.value.found)


def test_missing_files_are_downloaded(tmp_path: Path, mnist: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    resources = []
    for path in sorted((tmp_path / "MNIST" / "raw").iterdir()):
        data = gzip.compress(path.read_bytes())
        put_one(tmp_path / "mirror" / f"{path.name}.gz", data)
        resources.append((f"{path.name}.gz", hashlib.md5(data, usedforsecurity=False).hexdigest()))
    monkeypatch.setattr(tv.KMNIST, "resources", resources)
    with served(tmp_path / "mirror") as url:
        monkeypatch.setattr(tv.KMNIST, "mirrors", [f"{url}/"])
        dataset = load_dataset("torchvision:KMNIST", images=str(tmp_path / "cache"))
    first = np.asarray(Image.open(io.BytesIO(dataset.reader.read(dataset.samples[0].location))))
    assert np.array_equal(first[:, :, 0], mnist[0])
