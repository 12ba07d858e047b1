"""Hostile files, made to hang, to fill the memory or to end in a traceback: each is rejected quickly."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made import error_of, put, tarred_up

from semscale.categories.ladder_files import read_ladder
from semscale.common.errors import SemscaleError
from semscale.datasets.class_names import read_class_map
from semscale.datasets.loader_registry import load_dataset
from semscale.datasets.tables import parquet
from semscale.label.text_input import read_categories
from semscale.models.model_name import parse_model_name
from semscale.runs.published_folders import read_published_ladder
from semscale.runs.replay import read_predictions

DEEP = "[" * 100_000


def test_devices_and_pipes_are_no_images(tmp_path: Path) -> None:
    put(tmp_path, {"cat/1.png": b"1", "dog/2.png": b"2"})
    (tmp_path / "cat" / "zero.png").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "dog" / "pipe.png")
    dataset = load_dataset(f"folder:{tmp_path}")
    outcome: dict[str, object] = {}
    for sample in dataset.samples:
        try:
            outcome[sample.file] = dataset.reader.read(sample.location)
        except OSError as error:
            outcome[sample.file] = error.strerror
    bad = "not a regular file"
    assert outcome == {"cat/1.png": b"1", "cat/zero.png": bad, "dog/2.png": b"2", "dog/pipe.png": bad}


@pytest.mark.parametrize("spec", ["zip:{}", "tar:{}", "table:{}.csv", "parquet:{}.parquet", "webdataset:{}.tar"])
def test_devices_and_pipes_are_no_datasets(spec: str, tmp_path: Path) -> None:
    path = Path(spec.format(tmp_path / "x").partition(":")[2])
    os.mkfifo(path)
    assert "not a regular file" in error_of(spec.format(tmp_path / "x")) or spec.startswith(("parquet", "webdataset"))
    path.unlink()
    path.symlink_to("/dev/zero")
    error_of(spec.format(tmp_path / "x"))


def test_a_global_header_of_many_keys_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    keys = {f"k{i}": "" for i in range(60_000)}
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT, pax_headers=keys) as archive:
        for i in range(2000):
            archive.addfile(tarfile.TarInfo(f"cat/{i}.png"), io.BytesIO())
    assert "an extended header of" in error_of(f"tar:{path}")
    tarred_up(path, ("cat/1.png", b"1"), ("dog/" + "long/" * 100 + "2.png", b"2"))
    assert len(load_dataset(f"tar:{path}").samples) == 2


@pytest.mark.parametrize(
    "text",
    [
        "a: &a {x: y}\n"
        + "".join(f"{k}: &{k} {{<<: [*{j}, *{j}]}}\n" for j, k in zip("abcdefghij", "bcdefghijk", strict=True)),
        "a: &a [x, x]\nb: &b [*a, *a]\n",
        DEEP,
    ],
)
def test_an_endless_class_map_is_rejected(text: str, tmp_path: Path) -> None:
    (tmp_path / "names.yaml").write_text(text)
    with pytest.raises(SemscaleError, match="not valid YAML"):
        read_class_map(str(tmp_path / "names.yaml"))


def test_json_that_is_nested_too_deeply_is_an_error_of_its_file(tmp_path: Path) -> None:
    model = put(tmp_path / "model", {"open_clip_config.json": DEEP.encode()})
    path = tmp_path / "x.json"
    path.write_text(DEEP)
    for read in (read_ladder, read_published_ladder, read_categories, lambda path: read_class_map(str(path))):
        with pytest.raises(SemscaleError) as caught:
            read(path)
        assert "nested too deeply" in str(caught.value)
    with pytest.raises(SemscaleError, match="not the configuration"):
        parse_model_name(str(model))


@pytest.mark.parametrize("key", ["n_categories", "scale", "published_accuracy"])
def test_excessive_numbers_are_rejected(key: str, tmp_path: Path) -> None:
    step = {"n_categories": 2, "categories": {"cat": ["cat"], "dog": ["dog"]}, key: 10**400}
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"dataset": "d", "classes": ["cat", "dog"], "steps": [step]}))
    for read in (read_ladder, read_published_ladder):
        with pytest.raises(SemscaleError, match="ladder file is invalid"):
            read(path)


def test_one_value_in_many_rows_of_parquet_is_decoded_in_small_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_DECODED_BYTES", 2**20)
    path, images = tmp_path / "x.parquet", [None, *[{"bytes": bytes(200_000), "path": None}] * 999]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(images, kind), "label": ["cat", "dog"] * 500})
    pq.write_table(table, path, compression="zstd")
    dataset = load_dataset(f"parquet:{path}")
    assert dataset.reader.read(dataset.samples[500].location) == bytes(200_000)
    with pq.ParquetFile(path) as file:
        assert parquet._max_batch_size(str(path), file, 0, ["image"]) == 5
        assert parquet._max_batch_size(str(path), file, 0, ["label"]) > 10_000
    pq.write_table(table.set_column(1, "label", [["x" * 100_000] * 1000]), path, compression="zstd")
    assert "100,000 characters" in error_of(f"parquet:{path}")


def test_long_texts_in_many_rows_of_predictions_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    pq.write_table(pa.table({"true_class": ["cat"] * 4000, "2": ["x" * 30_000] * 4000}), path, compression="zstd")
    assert path.stat().st_size < 3000
    with pytest.raises(SemscaleError, match="30,000 bytes in the column 2"):
        read_predictions(path)
