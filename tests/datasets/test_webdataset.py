import json
import pickle
from pathlib import Path

import pytest
from made import listed, tarred_up

from semscale.common.errors import SemscaleError
from semscale.datasets.loader_registry import load_dataset

Sample = dict[str, bytes | str]


def shard(path: Path, samples: dict[str, Sample]) -> Path:
    parts = [(f"{key}.{ending}", content) for key, sample in samples.items() for ending, content in sample.items()]
    return tarred_up(path, *((name, part.encode() if isinstance(part, str) else part) for name, part in parts))


def test_shards_of_a_range_with_numbers_as_classes(tmp_path: Path) -> None:
    for number in range(8, 12):
        samples: dict[str, Sample] = {f"{i:03d}": {"jpg": f"{number}/{i}", "cls": str(i % 2)} for i in range(4)}
        shard(tmp_path / f"{number:03d}.tar{'.gz' if number == 9 else ''}", samples)
    dataset = load_dataset(
        f"webdataset:{tmp_path}/{{008,{{010..011}}}}.tar,{tmp_path}/*.tar.gz", classes=["cat", "dog"]
    )
    assert dataset.classes == ("cat", "dog")
    assert list(listed(dataset).items())[3:6] == [
        ("008/003.jpg", "dog"),
        ("009/000.jpg", "cat"),
        ("009/001.jpg", "dog"),
    ]
    reader = pickle.loads(pickle.dumps(dataset.reader))
    assert [reader.read(sample.location) for sample in dataset.samples][::5] == [b"8/0", b"9/1", b"10/2", b"11/3"]


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    shard(tmp_path / "000.tar", {"1": {"jpg": "", "cls": "0"}})
    with pytest.raises(SemscaleError, match="missing") as caught:
        load_dataset(f"webdataset:{tmp_path}/{{000..001}}.tar")
    assert "001.tar" in str(caught.value.found)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("x-{000..099.tar", "unbalanced"),
        ("x-{9..1}.tar", "missing"),
        ("{}.tar", "missing"),
        ("x-{0..2.tar", "unbalanced"),
    ],
)
def test_invalid_patterns(tmp_path: Path, pattern: str, words: str) -> None:
    with pytest.raises(SemscaleError, match=words):
        load_dataset(f"webdataset:{tmp_path}/{pattern}")


def test_labels_as_text_and_in_json_fields(tmp_path: Path) -> None:
    one = json.dumps({"label": "Löwe", "meta": {"species": 7}})
    samples: dict[str, Sample] = {"v1.5/1": {"JPG": "1", "json": one}, "v1.5/2": {"webp": "2", "txt": " sea_lion\n"}}
    path = shard(tmp_path / "a.tar", samples)
    assert listed(load_dataset(f"webdataset:{path}")) == {"a/v1.5/1.jpg": "Löwe", "a/v1.5/2.webp": "sea lion"}
    more: dict[str, Sample] = {
        str(i): {"png": "", "cls": "0", "json": json.dumps({"meta": {"species": f"s{i % 2}"}})} for i in range(4)
    }
    path = shard(tmp_path / "b.tar", more)
    assert load_dataset(f"webdataset:{path}", label="meta.species").classes == ("s0", "s1")


def test_a_sample_may_have_several_images(tmp_path: Path) -> None:
    samples: dict[str, Sample] = {
        str(i): {"mask.png": "mask", "left.jpg": "left", "jpg": "whole", "cls": str(i % 2)} for i in range(3)
    }
    path = shard(tmp_path / "a.tar", samples)
    dataset = load_dataset(f"webdataset:{path}")
    assert dataset.samples.files() == ["a/0.jpg", "a/1.jpg", "a/2.jpg"]
    assert any("3 samples have several images" in note for note in dataset.notes)
    left = load_dataset(f"webdataset:{path}", image="left.jpg")
    assert left.reader.read(left.samples[0].location) == b"left"


def test_missing_parts_are_warnings_and_broken_samples_rejected(tmp_path: Path) -> None:
    path = shard(
        tmp_path / "a.tar",
        {
            "1": {"jpg": "", "cls": "0"},
            "2": {"jpg": "", "cls": "1"},
            "alone": {"cls": "1"},
            "unlabelled": {"jpg": ""},
            "broken": {"jpg": "", "json": "{"},
            "nested": {"jpg": "", "json": '{"label": ["a"]}'},
            "latin": {"jpg": "", "txt": b"caf\xe9"},
            "huge": {"jpg": "", "txt": bytes(2**20 + 1)},
        },
    )
    dataset = load_dataset(f"webdataset:{path}")
    assert listed(dataset) == {"a/1.jpg": "0", "a/2.jpg": "1"}
    assert "1 sample has labels and no image next to them in the shard: a/alone" in dataset.notes
    assert any(note.startswith("1 image without a class") and "a/unlabelled.jpg" in note for note in dataset.notes)
    assert dict(dataset.rejected) == {
        "a/broken.jpg": "its .json is not JSON",
        "a/nested.jpg": "the class in its .json is neither a text nor a number",
        "a/latin.jpg": "its .txt is not UTF-8",
        "a/huge.jpg": "its .txt is larger than 1 MiB",
    }


def test_the_class_can_come_from_the_key(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", {"cat_1": {"jpg": "", "json": "{"}, "dog_2": {"jpg": ""}})
    dataset = load_dataset(f"webdataset:{path}", class_from="{class}_{number}.jpg")
    assert listed(dataset) == {"a/cat_1.jpg": "cat", "a/dog_2.jpg": "dog"}


def test_numbers_and_splits_are_no_dataset_names(tmp_path: Path) -> None:
    path = shard(tmp_path / "wds_cars" / "test" / "0.tar", {"1": {"jpg": "", "cls": "0"}, "2": {"jpg": "", "cls": "1"}})
    assert load_dataset(f"webdataset:{path}").name == "wds-cars"
    assert load_dataset(f"webdataset:{tmp_path / 'wds_cars'}").name == "wds-cars"


def test_shards_of_one_name_in_two_folders_and_splits(tmp_path: Path) -> None:
    samples: dict[str, Sample] = {"1": {"jpg": "", "cls": "0"}, "2": {"jpg": "", "cls": "1"}}
    for split in ("train", "val"):
        shard(tmp_path / split / "000.tar", samples)
    every = load_dataset(f"webdataset:{tmp_path}", split="all")
    assert every.samples.files() == ["train/000/1.jpg", "train/000/2.jpg", "val/000/1.jpg", "val/000/2.jpg"]
    assert load_dataset(f"webdataset:{tmp_path}", split="train").samples.files() == ["000/1.jpg", "000/2.jpg"]
    chosen = load_dataset(f"webdataset:{tmp_path}")
    assert any("only 'val' is read" in note for note in chosen.notes)
    shard(tmp_path / "val" / "000.tar.gz", samples)
    twice = load_dataset(f"webdataset:{tmp_path}/val")
    assert twice.samples.files() == ["000.tar/1.jpg", "000.tar/2.jpg", "000.tar.gz/1.jpg", "000.tar.gz/2.jpg"]
    with pytest.raises(SemscaleError, match="no such split"):
        load_dataset(f"webdataset:{tmp_path}", split="test")
    with pytest.raises(SemscaleError, match="the dataset has no splits"):
        load_dataset(f"webdataset:{tmp_path}/train/000.tar", split="test")
