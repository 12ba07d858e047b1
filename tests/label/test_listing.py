"""Kinds of inputs and their items."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from semscale.common.errors import SemscaleError
from semscale.datasets.loader_registry import load_dataset
from semscale.label.listing import LabelRequest, open_input


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five images without classes, in arbitrary folders."""
    folder = tmp_path / "photos"
    dataset = load_dataset("shapes", limit=5)
    for i, sample in enumerate(dataset.samples):
        target = folder / ("" if i < 2 else "train") / f"{i}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(dataset.reader.read(sample.location))
    return folder


def test_a_folder_gives_all_images_of_all_splits_and_classes(photos: Path) -> None:
    for given in (str(photos), f"folder:{photos}"):
        listing = open_input(given)
        assert (listing.kind, listing.title) == ("image", "photos")
        assert [item.name for item in listing.items] == ["0.png", "1.png", "train/2.png", "train/3.png", "train/4.png"]


def test_archives_by_their_endings_and_tables_without_a_class(photos: Path, tmp_path: Path) -> None:
    expected = {path.relative_to(photos).as_posix(): path.read_bytes() for path in photos.rglob("*.png")}
    shutil.make_archive(str(tmp_path / "a"), "zip", photos)
    shutil.make_archive(str(tmp_path / "a"), "gztar", photos)
    (tmp_path / "t.csv").write_text("n,photo\n" + "".join(f"{i},photos/{name}\n" for i, name in enumerate(expected)))
    for given, column in (("a.zip", None), (f"zip:{tmp_path}/a.zip", None), ("a.tar.gz", None), ("t.csv", "photo")):
        spec = f"table:{tmp_path / given}" if column else given if ":" in given else str(tmp_path / given)
        listing = open_input(spec, column)
        assert listing.reader is not None
        read = {item.name.removeprefix("photos/"): listing.reader.read(item.location) for item in listing.items}
        assert read == expected


def test_a_bundled_dataset_and_its_limit() -> None:
    listing = LabelRequest("digits", ("one",), "semscale-mini", limit=3).open()
    assert [item.name for item in listing.items] == [
        "digits/test/0000_zero.png",
        "digits/test/0001_one.png",
        "digits/test/0002_two.png",
    ]


def test_texts_are_items_of_their_lines(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\nhello\n\n")
    listing = open_input(str(tmp_path / "a.csv"))
    assert (listing.kind, listing.title, listing.reader) == ("text", "a", None)
    assert [(item.name, item.identifier, item.reason) for item in listing.items] == [
        ("hello", "2", None),
        ("", "3", "the text is empty"),
    ]


def test_a_name_that_is_not_utf8_is_rejected(photos: Path) -> None:
    os.rename(os.fsencode(photos / "0.png"), os.fsencode(photos) + b"/caf\xe9.png")
    bad = [item for item in open_input(str(photos)).items if item.reason]
    assert [(item.identifier, item.reason) for item in bad] == [("caf\\udce9.png", "the file's name is not UTF-8")]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("nowhere.zip", "the input does not exist"),
        ("digitz", "a folder, an archive, digits, shapes"),
        ("folder:nowhere", "does not exist"),
        ("photo.png", "neither of images nor of texts"),
    ],
)
def test_invalid_inputs_are_errors(given: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photo.png").touch()
    with pytest.raises(SemscaleError) as caught:
        open_input(given)
    assert words in str(caught.value)


@pytest.mark.parametrize("empty", ["folder", "texts.csv", "texts.txt"])
def test_an_empty_input_is_an_error(empty: str, tmp_path: Path) -> None:
    path = tmp_path / empty
    if path.suffix:
        path.write_text("text\n" if path.suffix == ".csv" else "")
    else:
        path.mkdir()
        (path / "read.me").touch()
    with pytest.raises(SemscaleError, match="the input is empty"):
        LabelRequest(str(path), ("one",), "semscale-mini").open()


def test_the_folder_is_a_function_of_the_request(photos: Path) -> None:
    def folder(**changed: object) -> Path:
        request = LabelRequest(**{"source": str(photos), "categories": ("a", "b"), "model": "m", **changed})  # type: ignore[arg-type]
        return request.default_folder(request.open())

    first = folder()
    os.utime(photos / "1.png", ns=(1, 1))
    assert folder() == first
    assert first.name.startswith("photos-")
    others = [folder(categories=("b", "a")), folder(model="n"), folder(limit=3), folder(source=str(photos / "train"))]
    assert len({first, *others}) == 5
