"""Class names: normalised, renamed, merged and left out by the user's map."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from semscale.common.errors import SemscaleError
from semscale.datasets.class_names import name_classes, read_class_map, readable
from semscale.datasets.dataset import ListingWarnings


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("garden_roses", "garden roses"),
        ("  Egyptian \t cat\n", "Egyptian cat"),
        ("water-lily", "water-lily"),
        ("cafe\u0301", "caf\u00e9"),
        ("__x__", "x"),
    ],
)
def test_names_are_normalised(label: str, name: str) -> None:
    assert readable(label) == name


def named(labels: list[str], notes: ListingWarnings | None = None, **how: Any) -> tuple[tuple[str, ...], list[int]]:
    classes, index = name_classes(labels, notes or ListingWarnings(), **how)
    return classes, index.tolist()


@pytest.mark.parametrize(
    ("labels", "how", "classes", "index"),
    [
        (["c10", "c9", "B", "a"], {}, ("a", "B", "c9", "c10"), [3, 2, 1, 0]),
        (
            ["n01440764", "garden_roses", "7"],
            {"class_map": {"n01440764": "tench", "Garden Roses": "rose"}},
            ("7", "rose", "tench"),
            [2, 1, 0],
        ),
        (["junk", "cat", "kitten"], {"class_map": {"junk": None, "kitten": "cat"}}, ("cat",), [-1, 0, 0]),
        (
            ["1", "0"],
            {"stated": {"0": "zebra", "1": "ant"}, "order": ["zebra", "ant", "bee"]},
            ("zebra", "ant", "bee"),
            [1, 0],
        ),
        (["Buße", "Busse"], {}, ("Busse", "Buße"), [1, 0]),
        (["_", "b"], {"class_map": {"_": "blank"}}, ("b", "blank"), [1, 0]),
    ],
)
def test_classes_are_sorted_renamed_merged_and_left_out(
    labels: list[str], how: dict[str, Any], classes: tuple[str, ...], index: list[int]
) -> None:
    notes = ListingWarnings()
    assert named(labels, notes, **how) == (classes, index)
    assert not [line for line in notes.lines() if "meaningless to a model" not in line]


def test_spellings_that_become_one_class_are_named() -> None:
    notes = ListingWarnings()
    assert named(["sea lion", "Sea_Lion", "sea_lion"], notes) == (("Sea Lion",), [0, 0, 0])
    text = "\n".join(notes.lines())
    assert "'sea lion' and 'sea_lion'" in text
    assert "'Sea Lion' and 'sea lion'" in text


def test_meaningless_names_and_unused_keys_are_warnings() -> None:
    notes = ListingWarnings()
    name_classes(["n01440764", "3", "cat"], notes, class_map={"dgo": "dog"})
    text = "\n".join(notes.lines())
    assert "2 class names are meaningless to a model (3, n01440764)" in text
    assert "1 key of classes: is unused: dgo" in text


def test_an_empty_name_is_an_error() -> None:
    with pytest.raises(SemscaleError, match="empty name"):
        name_classes(["_"], ListingWarnings())


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("c.txt", "airplane\nautomobile\n\n", ({"0": "airplane", "1": "automobile"}, ["airplane", "automobile"])),
        ("c.json", json.dumps({"3": "cat", "x": None}), ({"3": "cat", "x": None}, None)),
        ("c.yaml", "3: cat\n4: 5\n", ({"3": "cat", "4": "5"}, None)),
        ("c.yaml", "\ufeffyes: no\n007: 010\nx: ~\n", ({"yes": "no", "007": "010", "x": None}, None)),
        ("c.json", '[7, 1.50, "x"]', ({"0": "7", "1": "1.50", "2": "x"}, ["7", "1.50", "x"])),
        ("c.yaml", f"x: 1{':1' * 10_000}", ({"x": f"1{':1' * 10_000}"}, None)),
        ("c.yml", "[a, b]", ({"0": "a", "1": "b"}, ["a", "b"])),
    ],
)
def test_files_with_names(tmp_path: Path, name: str, text: str, expected: Any) -> None:
    (tmp_path / name).write_text(text)
    assert read_class_map(str(tmp_path / name)) == expected


@pytest.mark.parametrize("text", ["{a: [1]}", "just a text", "{broken", "[null]", "a: b\na: c\n"])
def test_files_with_other_content_are_rejected_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "names.yaml"
    path.write_text(text)
    with pytest.raises(SemscaleError, match="file with class names") as caught:
        read_class_map(str(path))
    assert str(path) in str(caught.value)


def test_a_list_states_all_classes_with_or_without_images() -> None:
    class_map, order = read_class_map(["cat", "dog", "emu"])
    assert name_classes(["2", "0"], ListingWarnings(), class_map=class_map, order=order)[0] == ("cat", "dog", "emu")
