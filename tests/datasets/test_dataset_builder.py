"""Dataset builder: warnings of a listing, and errors with their location."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import error_of, put, tarred_up, zipped

from semscale.common.errors import SemscaleError
from semscale.datasets.dataset import Dataset, DatasetListing, DatasetOptions, ListedImage
from semscale.datasets.dataset_builder import build_dataset
from semscale.datasets.dataset_check import duplicate_warnings
from semscale.datasets.folder import FolderReader
from semscale.datasets.loader_registry import load_dataset
from semscale.datasets.samples import Sample, SampleTable


def made(
    entries: Iterable[ListedImage], options: DatasetOptions | None = None, stated: Any = None, **more: Any
) -> Dataset:
    listing = DatasetListing("made", FolderReader("/"), entries, classes=stated)
    return build_dataset(listing, replace(options or DatasetOptions(), **more), "here")


def labelled(*pairs: tuple[str, str]) -> list[ListedImage]:
    return [ListedImage(file, label=label) for file, label in pairs]


def make(root: Path, *files: str) -> Path:
    return put(root, {file: file.encode() for file in files})


def test_rejected_entries_are_no_samples() -> None:
    dataset = made([*labelled(("1", "a"), ("2", "b")), ListedImage("3", label="a", reason="a link")])
    assert (dataset.samples.files(), dict(dataset.rejected)) == (["1", "2"], {"3": "a link"})


def test_repeated_files_count_once_and_conflicts_are_named() -> None:
    dataset = made(labelled(("1", "a"), ("2", "b"), ("1", "a"), ("2", "a")))
    assert [(sample.file, sample.true_class) for sample in dataset.samples] == [("1", "a"), ("2", "b")]
    text = "\n".join(dataset.notes)
    assert "1 image is listed more than once: 1" in text
    assert "2 ('a' and 'b')" in text


def test_classes_with_one_image_or_none_are_named() -> None:
    dataset = made(labelled(("0", "a"), ("1", "a"), ("2", "a"), ("b1", "b")), stated=("a", "b", "c"))
    assert dataset.classes == ("a", "b", "c")
    text = "\n".join(dataset.notes)
    assert "1 class has a single image: b" in text
    assert "1 class has no image and is offered nevertheless: c" in text


@pytest.mark.parametrize(
    ("entries", "options", "words"),
    [
        ([], DatasetOptions(), "no images"),
        ([ListedImage("1", reason="cut off")], DatasetOptions(), "1: cut off"),
        ([ListedImage("1"), ListedImage("2")], DatasetOptions(), "no image has a class"),
        ([ListedImage("x/1.jpg")], DatasetOptions(class_from="{class}_{number}.jpg"), "fits no file"),
        (labelled(("1", "a"), ("2", "A")), DatasetOptions(), "at least two classes"),
    ],
)
def test_unusable_datasets_are_rejected(entries: list[ListedImage], options: DatasetOptions, words: str) -> None:
    with pytest.raises(SemscaleError) as caught:
        made(entries, options)
    assert words in str(caught.value)
    assert "here" in str(caught.value)


def test_a_rule_wins_over_labels_and_a_map_over_both() -> None:
    dataset = made(
        labelled(("cat_1.png", "wrong"), ("dog_2.png", "wrong"), ("zzz.png", "wrong")),
        DatasetOptions(class_from="{class}_{number}.png"),
        classes={"cat": "house cat"},
    )
    assert dataset.classes == ("dog", "house cat")
    assert "1 image without a class is left out: zzz.png" in dataset.notes


def test_duplicates_of_different_classes_are_named() -> None:
    samples = SampleTable.of(["a", "b"], [Sample(str(i), "ab"[i // 3]) for i in range(6)])
    keys = np.array([b"x", b"y", b"x", b"y", b"z", b"w"], dtype="V32")
    lines = duplicate_warnings(samples, keys)
    assert lines == [
        "2 exact copies of other images (2 pictures more than once)",
        "1 picture has several classes: 1 (a) = 3 (b)",
    ]
    assert duplicate_warnings(samples, np.array([b"%d" % i for i in range(6)], dtype="V32")) == []


def test_bundled_datasets_accept_limits_names_and_splits() -> None:
    assert len(load_dataset("digits", per_class=3).samples) == 30
    named = load_dataset("digits", split="train", classes={"zero": "nought", "one": None})
    assert (named.classes[0], len(named.classes)) == ("nought", 9)
    assert named.samples[0].file.startswith("digits/train/")


def test_a_split_of_nested_folders_is_chosen(tmp_path: Path) -> None:
    make(tmp_path, "train/a/1.png", "train/b/2.png", "test/a/3.png", "test/b/4.png")
    assert load_dataset(f"folder:{tmp_path}").samples.files() == ["test/a/3.png", "test/b/4.png"]
    assert load_dataset(f"folder:{tmp_path}", split="train").samples.files() == ["train/a/1.png", "train/b/2.png"]
    assert len(load_dataset(f"folder:{tmp_path}", split="all").samples) == 4


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_system_folders_are_no_classes(form: str, tmp_path: Path) -> None:
    waste = ("@eaDir/a/1.png", "a/@eaDir/1.png/THUMB.jpg", "$RECYCLE.BIN/x.png", "__MACOSX/a/1.png", "lost+found/3.png")
    names = ["a/1.png", "b/2.png", "#recycle/c/4.png", *waste]
    path = make(tmp_path / "x", *names) if form == "folder" else zipped(tmp_path / "x.zip", dict.fromkeys(names, b""))
    assert load_dataset(f"{form}:{path}").samples.files() == ["a/1.png", "b/2.png"]


def test_names_with_meaning_for_file_systems_are_plain_names(tmp_path: Path) -> None:
    for name in ("a::b", "[v2]"):
        dataset = load_dataset(f"folder:{make(tmp_path / name, 'a/1.png', 'b/2.png')}")
        assert len(dataset.reader.read(dataset.samples[0].location)) == len((tmp_path / name / "a/1.png").read_bytes())
        tarred_up(tmp_path / name / "x.tar", ("1.png", b""), ("1.cls", b"a"), ("2.png", b""), ("2.cls", b"b"))
        assert len(load_dataset(f"webdataset:{tmp_path / name}").samples) == 2


def test_the_error_of_a_rejected_dataset_has_its_warnings(tmp_path: Path) -> None:
    path = tarred_up(tmp_path / "x.tar", ("1.png", b""), ("2.png", b""), ("1.cls", b"a"), ("2.cls", b"b"))
    message = error_of(f"webdataset:{path}")
    assert "2 samples have labels and no image next to them in the shard: x/1, x/2" in message
    make(tmp_path / "one", "a/1.png", "a/notes.txt")
    message = error_of(f"folder:{tmp_path / 'one'}")
    assert "1 image of a; 1 class has a single image: a" not in message
    assert "1 image of a; 1 file has no image's ending: a/notes.txt" in message


def test_cyclic_links_are_named_and_not_followed(tmp_path: Path) -> None:
    make(tmp_path, "a/1.png", "b/2.png", "b/notes.txt", "b/more.zip")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    dataset = load_dataset(f"folder:{tmp_path}")
    assert len(dataset.samples) == 2
    text = "\n".join(dataset.notes)
    assert "1 link leads back into the dataset: a/again" in text
    assert "1 file has no image's ending: b/notes.txt" in text
    assert "1 archive inside is not opened: b/more.zip" in text


def test_class_is_the_folder_and_order_is_stable(tmp_path: Path) -> None:
    root = make(
        tmp_path / "my photos", "garden_rose/b.jpg", "garden_rose/a.PNG", "tulip/deep/c.webp", "tulip/notes.txt"
    )
    dataset = load_dataset(f"folder:{root}", domain="flower")
    assert (dataset.name, dataset.domain, dataset.classes) == ("my-photos", "flower", ("garden rose", "tulip"))
    assert [(sample.file, sample.true_class) for sample in dataset.samples] == [
        ("garden_rose/a.PNG", "garden rose"),
        ("garden_rose/b.jpg", "garden rose"),
        ("tulip/deep/c.webp", "tulip"),
    ]
    assert dataset.reader.read("tulip/deep/c.webp") == b"tulip/deep/c.webp"


@pytest.mark.parametrize(
    ("spec", "words"),
    [("digitz", "did you mean 'digits'"), ("folder:/nowhere/at/all", "does not exist"), ("zip", "unknown dataset")],
)
def test_wrong_specs_are_user_errors(spec: str, words: str) -> None:
    with pytest.raises(SemscaleError) as caught:
        load_dataset(spec)
    assert words in str(caught.value)
