from __future__ import annotations

import json
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made import error_of, listed

from semscale.datasets.dataset import Dataset
from semscale.datasets.loader_registry import load_dataset
from semscale.datasets.tables import parquet

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def image(content: bytes | None, path: str | None = None) -> dict[str, object]:
    return {"bytes": content, "path": path}


def write(
    path: Path,
    images: list[Any],
    labels: list[Any],
    *,
    kind: pa.DataType = IMAGE,
    names: list[str] | None = None,
    group: int = 2,
    **others: list[Any],
) -> Path:
    table = pa.table({"image": pa.array(images, kind), "label": labels, **others})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=group)
    return path


def read(dataset: Dataset) -> list[bytes]:
    reader = pickle.loads(pickle.dumps(dataset.reader))
    return [reader.read(location) for location in dataset.samples.locations()]


def test_locations_are_file_row_group_and_row(tmp_path: Path) -> None:
    write(tmp_path / "x.parquet", [image(b"0"), image(b"1"), image(b"2")], ["a", "b", "a"])
    dataset = load_dataset(f"parquet:{tmp_path / 'x.parquet'}")
    assert dataset.samples.locations() == ["x.parquet:0:0", "x.parquet:0:1", "x.parquet:1:0"]
    assert dataset.samples.files() == ["x/0", "x/1", "x/2"]
    assert read(dataset) == [b"0", b"1", b"2"]


def test_unique_paths_are_the_file_names(tmp_path: Path) -> None:
    file = write(tmp_path / "x.parquet", [image(b"0", "./a/0.png"), image(b"1", "a\\1.png")], ["a", "b"])
    assert listed(load_dataset(f"parquet:{file}")) == {"a/0.png": "a", "a/1.png": "b"}
    file = write(tmp_path / "y.parquet", [image(b"0", "0.PNG"), image(b"1", "0.PNG")], ["a", "b"])
    assert listed(load_dataset(f"parquet:{file}")) == {"y/0.png": "a", "y/1.png": "b"}


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.binary_view(), pa.struct([("bytes", pa.binary())])]
)
def test_bytes_of_every_type(tmp_path: Path, kind: pa.DataType) -> None:
    struct = pa.types.is_struct(kind)
    values = [{"bytes": content} if struct else content for content in (b"0", b"1")]
    file = write(tmp_path / "x.parquet", values, ["a", "b"], kind=kind)
    assert read(load_dataset(f"parquet:{file}")) == [b"0", b"1"]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["cat", "dog"], ("cat", "dog")),
        (pa.array(["cat", "dog"]).dictionary_encode(), ("cat", "dog")),
        ([7, 8], ("7", "8")),
        ([7.0, 8.0], ("7", "8")),
        ([True, False], ("false", "true")),
    ],
)
def test_labels_of_every_type(tmp_path: Path, labels: Any, classes: tuple[str, ...]) -> None:
    file = write(tmp_path / "x.parquet", [image(b"0"), image(b"1")], labels)
    assert load_dataset(f"parquet:{file}").classes == classes


def test_metadata_determine_the_columns(tmp_path: Path) -> None:
    table = pa.table(
        {"photo": pa.array([image(b"0"), image(b"1")], IMAGE), "file": ["x", "y"], "kind": [1, 0], "label": [5, 6]}
    )
    features = {"photo": {"_type": "Image"}, "kind": {"_type": "ClassLabel", "names": ["dog", "cat"]}}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, tmp_path / "x.parquet")
    dataset = load_dataset(f"parquet:{tmp_path / 'x.parquet'}")
    assert (listed(dataset), dataset.classes) == ({"x/0": "cat", "x/1": "dog"}, ("dog", "cat"))
    assert load_dataset(f"parquet:{tmp_path / 'x.parquet'}", label="label").classes == ("5", "6")


@pytest.mark.parametrize(
    "metadata", [b"", b"[", b"[]", b'{"info": {"features": 3}}', b'{"info": {"features": {"label": 3}}}']
)
def test_invalid_metadata_are_ignored(tmp_path: Path, metadata: bytes) -> None:
    file = write(tmp_path / "x.parquet", [image(b"0"), image(b"1")], ["a", "b"])
    pq.write_table(pq.read_table(file).replace_schema_metadata({b"huggingface": metadata}), file)
    assert load_dataset(f"parquet:{file}").classes == ("a", "b")


# --- paths instead of bytes


@pytest.mark.parametrize("form", ["struct", "text"])
def test_paths_are_relative_to_the_file(tmp_path: Path, form: str) -> None:
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(name.encode())
    paths = ["a.png", "b.png", "none.png", None]
    if form == "struct":
        kind = pa.struct([("path", pa.string())])
        file = write(tmp_path / "x.parquet", [{"path": path} for path in paths], list("xyxy"), kind=kind)
    else:
        file = write(tmp_path / "x.parquet", paths, list("xyxy"), kind=pa.string())
    dataset = load_dataset(f"parquet:{file}")
    assert listed(dataset) == {"a.png": "x", "b.png": "y"}
    assert read(dataset) == [b"a", b"b"]
    assert dataset.rejected == {
        "none.png": "row 2 of x.parquet: no such image",
        "x.parquet row 3": "row 3 of x.parquet: names no image",
    }
    assert "1 image has no row in x.parquet and is left out: c.png" in dataset.notes


# --- files and splits


@pytest.fixture
def splits(tmp_path: Path) -> Path:
    for split in ("train", "test"):
        for shard in range(2):
            contents = [image(f"{split}{shard}{row}".encode()) for row in range(2)]
            write(tmp_path / "data" / f"{split}-0000{shard}-of-00002.parquet", contents, ["a", "b"])
    return tmp_path


def test_split_is_in_the_names_of_the_files(splits: Path) -> None:
    dataset = load_dataset(f"parquet:{splits}")
    assert read(dataset) == [b"test00", b"test01", b"test10", b"test11"]
    assert dataset.samples.files()[2] == "test-00001-of-00002/0"
    assert dataset.notes == ("of the splits test, train only 'test' is read; split: chooses another",)
    assert read(load_dataset(f"parquet:{splits}", split="train"))[0] == b"train00"
    assert len(load_dataset(f"parquet:{splits}", split="all").samples) == 8
    assert "expected: test, train" in error_of(f"parquet:{splits}", split="val")


def test_globs_and_single_files(splits: Path) -> None:
    assert len(load_dataset(f"parquet:{splits}/data/train-*.parquet").samples) == 4
    assert len(load_dataset(f"parquet:{splits}/**/*-00001-*.parquet", split="all").samples) == 4
    assert load_dataset(f"parquet:{splits}/data/*-00001-*.parquet").name == "data"
    one = load_dataset(f"parquet:{splits}/data/test-00001-of-00002.parquet")
    assert one.notes[0] == "only 1 of the 2 files of test exist"
    assert read(one) == [b"test10", b"test11"]


def test_split_is_in_the_folders(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write(tmp_path / "default" / split / "0000.parquet", [image(split.encode()), image(b"")], ["a", "b"])
    assert read(load_dataset(f"parquet:{tmp_path}", split="train"))[0] == b"train"
    files = load_dataset(f"parquet:{tmp_path}", split="all").samples.files()
    assert files[::2] == ["default/train/0000/0", "default/validation/0000/0"]


def test_files_without_splits(tmp_path: Path) -> None:
    for part in range(2):
        write(tmp_path / f"part-{part}.parquet", [image(b"0"), image(b"1")], ["a", "b"])
    (tmp_path / ".cache").mkdir()
    write(tmp_path / ".cache" / "x.parquet", [image(b"0")], ["c"])
    assert len(load_dataset(f"parquet:{tmp_path}").samples) == 4
    assert "no splits" in error_of(f"parquet:{tmp_path}", split="test")


@pytest.mark.parametrize("rest", ["none.parquet", "empty", "empty/*.parquet", "none/*.parquet"])
def test_no_files(tmp_path: Path, rest: str) -> None:
    (tmp_path / "empty").mkdir()
    assert "no Parquet file exists" in error_of(f"parquet:{tmp_path / rest}")


def test_other_file_systems(splits: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(splits / "data"), "/hub/data", recursive=True)
    assert read(load_dataset("parquet:memory://hub/data", split="test")) == [b"test00", b"test01", b"test10", b"test11"]
    assert len(load_dataset("parquet:memory://hub/*/train-*").samples) == 4
    assert len(load_dataset("table:memory://hub/data/train-00000-of-00002.parquet").samples) == 2


# --- damage


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all" * 10, None])
def test_damaged_files_are_named(tmp_path: Path, content: bytes | None) -> None:
    write(tmp_path / "part-0.parquet", [image(b"0"), image(b"1")], ["a", "b"])
    whole = write(tmp_path / "part-1.parquet", [image(os.urandom(5000)), image(b"1")], ["a", "b"]).read_bytes()
    (tmp_path / "part-1.parquet").write_bytes(whole[:-100] if content is None else content)
    message = error_of(f"parquet:{tmp_path}")
    assert "the Parquet file cannot be read" in message
    assert f"where:    {tmp_path / 'part-1.parquet'}\n" in message


def test_damage_affects_its_row_group_only(tmp_path: Path) -> None:
    images = [image(bytes([65 + row]) * 3000 + os.urandom(3000)) for row in range(4)]
    file = write(tmp_path / "x.parquet", images, list("abab"))
    place = pq.ParquetFile(file).metadata.row_group(0).column(0).dictionary_page_offset
    content = bytearray(file.read_bytes())
    content[place : place + 64] = b"\xff" * 64
    file.write_bytes(content)
    dataset = load_dataset(f"parquet:{file}")
    assert len(dataset.samples) == 4
    for _ in range(2):  # a second read raises the same error
        with pytest.raises(OSError, match=r"row group 0 of x\.parquet: "):
            dataset.reader.read(dataset.samples[0].location)
    assert dataset.reader.read(dataset.samples[2].location)[:1] == b"C"


def test_a_rewritten_file_is_read_again(tmp_path: Path) -> None:
    file = write(tmp_path / "x.parquet", [image(b"old"), image(b"1")], ["a", "b"])
    assert read(load_dataset(f"parquet:{file}"))[0] == b"old"
    dataset = load_dataset(f"parquet:{write(file, [image(b'younger'), image(b'1')], ['a', 'b'])}")
    assert read(dataset)[0] == b"younger"
    write(file, [image(b"x")], ["a"])
    with pytest.raises(OSError, match="has changed since it was listed"):
        dataset.reader.read(dataset.samples[1].location)
    file.unlink()
    with pytest.raises(OSError, match="no such file"):
        dataset.reader.read(dataset.samples[1].location)


@pytest.mark.parametrize(
    ("columns", "options", "words"),
    [
        ({"image": [[1, 2]], "label": ["a"]}, {}, ["type of the image column", "image: list<", "set image:"]),
        ({"image": [b"0"], "label": [["a"]]}, {}, ["type of the class column", "label: list<", "set label:"]),
        ({"a": [b"0"], "b": [b"0"], "image": [b"1"], "img": [b"2"], "label": ["a"]}, {}, ["'image', 'img'"]),
    ],
)
def test_errors_of_columns_name_the_option(
    tmp_path: Path, columns: dict[str, list[Any]], options: dict[str, str], words: list[str]
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    message = error_of(f"parquet:{tmp_path / 'x.parquet'}", **options)
    assert all(word in message for word in [*words, "x.parquet"]), message


def test_files_need_equal_columns(tmp_path: Path) -> None:
    write(tmp_path / "part-0.parquet", [image(b"0"), image(b"1")], ["a", "b"])
    write(tmp_path / "part-1.parquet", [b"0", b"1"], ["a", "b"], kind=pa.binary())
    message = error_of(f"parquet:{tmp_path}")
    assert "different columns" in message
    assert "part-1.parquet" in message


# --- reading


def test_rows_are_read_in_any_order_by_many_threads_within_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_READ_BYTES", 4_000)
    contents = [bytes([row]) * 1000 for row in range(100)]
    file = write(tmp_path / "x.parquet", [image(one) for one in contents], list("ab") * 50, group=60)
    dataset = load_dataset(f"parquet:{file}")
    order = np.random.default_rng(0).permutation(100).tolist()
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda row: dataset.reader.read(dataset.samples[row].location), order))
    assert found == [contents[row] for row in order]
    state = file.stat()
    held = parquet._row_group(str(file), (state.st_mtime_ns, state.st_size), 0, "image")._kept
    assert sum(values.nbytes for _, values in held) <= 4 * 4_000
