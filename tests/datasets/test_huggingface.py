"""Datasets through the package `datasets`, from folders that it wrote and from a hub that refuses or is unreachable."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import put
from PIL import Image

from semscale.common.errors import SemscaleError
from semscale.datasets.loader_registry import load_dataset

hub: Any = pytest.importorskip("datasets")

NAMES = ["sea_lion", "tulip"]


def picture(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 9, 3), number, np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub.config, "HF_DATASETS_CACHE", str(tmp_path / "hf-cache"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf-cache"))


def table(labels: list[Any], first: int = 0, feature: Any = None, **more: Any) -> Any:
    columns = {"image": hub.Image(), "label": feature or hub.ClassLabel(names=NAMES)}
    columns |= {name: hub.Value("int64") for name in more}
    images = [{"bytes": picture(first + i), "path": f"photo_{first + i}.jpg"} for i in range(len(labels))]
    return hub.Dataset.from_dict({"image": images, "label": labels, **more}, features=hub.Features(columns))


def test_saved_datasets_are_read_unchanged(tmp_path: Path) -> None:
    table([1, 0, 1]).save_to_disk(tmp_path / "flowers")
    dataset = load_dataset(f"hf:{tmp_path / 'flowers'}")
    assert (dataset.name, dataset.classes) == ("flowers", ("sea lion", "tulip"))
    assert [(one.file, one.true_class) for one in dataset.samples] == [
        ("all/000000/photo_0.jpg", "tulip"),
        ("all/000001/photo_1.jpg", "sea lion"),
        ("all/000002/photo_2.jpg", "tulip"),
    ]
    assert [dataset.reader.read(location) for location in dataset.samples.locations()] == [picture(i) for i in range(3)]


def test_splits_are_chosen_by_spec_or_option(tmp_path: Path) -> None:
    splits = hub.DatasetDict(train=table([0, 1, 1]), validation=table([0, 1], 3), test=table([1, 0], 5))
    splits.save_to_disk(tmp_path / "two")
    spec = f"hf:{tmp_path / 'two'}"
    unasked = load_dataset(spec)
    assert unasked.reader.read(unasked.samples[0].location) == picture(5)
    assert unasked.notes[0] == "of the splits train, validation, test only 'test' is read; split: chooses another"
    assert len(load_dataset(f"{spec}:train").samples) == 3
    assert load_dataset(spec, split="val").samples.files() == load_dataset(f"{spec}:validation").samples.files()
    everything = load_dataset(spec, split="all")
    assert [everything.reader.read(location) for location in everything.samples.locations()] == [
        picture(i) for i in range(7)
    ]
    with pytest.raises(SemscaleError, match="no such split"):
        load_dataset(f"{spec}:extra")
    with pytest.raises(SemscaleError, match="two splits are requested"):
        load_dataset(f"{spec}:train", split="test")


def test_a_worker_opens_the_dataset(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    table([0, 1]).to_parquet(tmp_path / "data" / "train-00000-of-00001.parquet")
    table([0, 1], 2).to_parquet(tmp_path / "data" / "test-00000-of-00001.parquet")
    dataset = load_dataset(f"hf:{tmp_path / 'data'}:test")
    assert dataset.classes == ("sea lion", "tulip")
    small = pickle.dumps((dataset.reader, dataset.samples.locations()))
    assert len(small) < 1000
    command = "import pickle, sys; reader, locations = pickle.load(sys.stdin.buffer); "
    command += "pickle.dump([reader.read(location) for location in locations], sys.stdout.buffer)"
    done = subprocess.run([sys.executable, "-c", command], input=small, capture_output=True, timeout=120)
    assert pickle.loads(done.stdout) == [picture(2), picture(3)]
    assert done.stderr == b""


def test_an_image_folder_gives_its_files_unchanged(tmp_path: Path) -> None:
    names = ("rose", "rose", "tulip")
    put(tmp_path / "photos" / "train", {f"{name}/{number}.jpg": picture(number) for number, name in enumerate(names)})
    dataset = load_dataset(f"hf:{tmp_path / 'photos'}")
    assert dataset.classes == ("rose", "tulip")
    assert [dataset.reader.read(location) for location in dataset.samples.locations()] == [picture(i) for i in range(3)]


def test_rows_of_unlabelled_splits_have_no_class(tmp_path: Path) -> None:
    table([0, -1, 1, None]).save_to_disk(tmp_path / "flowers")
    dataset = load_dataset(f"hf:{tmp_path / 'flowers'}")
    assert dataset.samples.locations() == ["all:0", "all:2"]
    assert dataset.notes[0].startswith("2 images without a class are left out")


def test_the_file_name_can_be_the_class(tmp_path: Path) -> None:
    plain = table([0, 1]).remove_columns("label")
    plain.save_to_disk(tmp_path / "flowers")
    assert load_dataset(f"hf:{tmp_path / 'flowers'}", class_from="photo_{class}.jpg").classes == ("0", "1")


def test_a_row_without_an_image_is_rejected_alone(tmp_path: Path) -> None:
    rows = hub.Features({"image": hub.Image(), "label": hub.ClassLabel(names=NAMES)})
    images = [None, {"bytes": b"", "path": None}, {"bytes": picture(2), "path": None}]
    hub.Dataset.from_dict({"image": images, "label": [0, 1, 0]}, features=rows).save_to_disk(tmp_path / "flowers")
    dataset = load_dataset(f"hf:{tmp_path / 'flowers'}")
    assert dataset.samples.files() == ["all/000000", "all/000001", "all/000002"]
    with pytest.raises(OSError, match="the row has no image"):
        dataset.reader.read("all:0")
    assert dataset.reader.read("all:1") == b""
    assert dataset.reader.read("all:2") == picture(2)


def test_a_column_without_images_is_a_user_error(tmp_path: Path) -> None:
    table([0, 1]).save_to_disk(tmp_path / "flowers")
    with pytest.raises(SemscaleError, match="the column has no images"):
        load_dataset(f"hf:{tmp_path / 'flowers'}", image="label")


def test_two_class_columns_are_ambiguous(tmp_path: Path) -> None:
    fine = table([0, 1]).rename_column("label", "fine")
    fine = fine.add_column("coarse", [1, 0]).cast_column("coarse", hub.ClassLabel(names=["animal", "plant"]))
    fine.save_to_disk(tmp_path / "flowers")
    with pytest.raises(SemscaleError, match="column with the class cannot be determined") as caught:
        load_dataset(f"hf:{tmp_path / 'flowers'}")
    assert "'fine', 'coarse'" in str(caught.value.found)
    assert load_dataset(f"hf:{tmp_path / 'flowers'}", label="coarse").classes == ("animal", "plant")


def test_a_damaged_folder_is_one_error_for_all_reads(tmp_path: Path) -> None:
    folder = tmp_path / "flowers"
    table([0, 1]).save_to_disk(folder)
    reader = load_dataset(f"hf:{folder}").reader
    next(folder.glob("*.arrow")).write_bytes(b"ARROW1 cut off")
    with pytest.raises(SemscaleError, match="the dataset cannot be loaded"):
        load_dataset(f"hf:{folder}")
    for location in ("all:0", "all:1"):
        with pytest.raises(OSError, match="the dataset cannot be loaded"):
            reader.read(location)


@pytest.mark.parametrize("name", ["/nowhere/at/all", "./nothing", "a/b/c"])
def test_neither_a_folder_nor_a_name_is_an_error(name: str) -> None:
    with pytest.raises(SemscaleError, match="neither a folder nor the name of a dataset"):
        load_dataset(f"hf:{name}")


class Refusing(BaseHTTPRequestHandler):
    """Answers as the hub does for missing and private datasets."""

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("X-Error-Code", "GatedRepo" if "gated" in self.path else "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815


@pytest.fixture(scope="module")
def refusing() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def asked_of(endpoint: str, *names: str) -> str:
    """Return the messages of a process with this hub, whose address is read when the package is imported."""
    code = (
        "from semscale.datasets.loader_registry import load_dataset\nfrom semscale.common.errors import SemscaleError\n"
    )
    code += f"for name in {names}:\n    try:\n        load_dataset(f'hf:{{name}}')\n"
    code += "    except SemscaleError as error:\n        print(error)"
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_TOKEN": "hf_hidden"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    assert "hf_hidden" not in done.stdout
    return done.stdout


def test_unknown_and_gated_datasets_are_user_errors(refusing: str) -> None:
    message = asked_of(refusing, "no/such", "some/gated@config:test")
    assert message.count("the dataset does not exist on the hub, or you have no access") == 2
    assert message.count("HF_TOKEN opens private and gated datasets") == 2
    assert "hf:some/gated\n" in message


def test_an_unreachable_hub_is_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(SemscaleError, match="the dataset cannot be loaded") as caught:
        load_dataset("hf:food101")
    assert "food101" in str(caught.value.found)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(SemscaleError) as caught:
        load_dataset("hf:food101")
    assert caught.value.hint == 'pip install "semscale[hf]"'
