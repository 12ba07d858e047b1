from pathlib import Path

import pytest

from semscale.datasets.registry import load_dataset
from semscale.errors import SemscaleError


def make(root: Path, *files: str) -> Path:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.encode())
    return root


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


def test_limit_keeps_the_shares_of_the_classes_and_is_stable(tmp_path: Path) -> None:
    root = make(tmp_path, *(f"{name}/{i}.jpg" for name in "abc" for i in range(10)))
    cut = load_dataset(f"folder:{root}", name="x", limit=7)
    again = load_dataset(f"folder:{root}", name="x", limit=7)
    assert list(cut.samples) == list(again.samples)
    assert sorted([sample.true_class for sample in cut.samples].count(name) for name in "abc") == [2, 2, 3]
    larger = {sample.file for sample in load_dataset(f"folder:{root}", name="x", limit=12).samples}
    assert {sample.file for sample in cut.samples} <= larger


@pytest.mark.parametrize(
    ("spec", "words"),
    [("digitz", "did you mean 'digits'"), ("folder:/nowhere/at/all", "does not exist"), ("zip", "unknown dataset")],
)
def test_wrong_specs_are_user_errors(spec: str, words: str) -> None:
    with pytest.raises(SemscaleError) as caught:
        load_dataset(spec)
    assert words in str(caught.value)


def test_one_class_is_not_a_study(tmp_path: Path) -> None:
    with pytest.raises(SemscaleError, match="at least two classes"):
        load_dataset(f"folder:{make(tmp_path, 'a/1.jpg')}")


def test_two_spellings_of_one_class_are_one_and_named(tmp_path: Path) -> None:
    dataset = load_dataset(f"folder:{make(tmp_path, 'sea_lion/1.jpg', 'Sea lion/2.jpg', 'seal/3.jpg')}")
    assert dataset.classes == ("Sea lion", "seal")
    assert dataset.notes[0] == "1 names that differ only in case are one class: 'Sea lion' and 'sea lion'"
