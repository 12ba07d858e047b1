"""Class names: normalised in one place, renamed, merged and left out as the user says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from semscale.datasets.names import name_classes, normalise, read_class_map
from semscale.datasets.source import Notes
from semscale.errors import SemscaleError


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
    assert normalise(label) == name


def test_numbers_are_sorted_by_value() -> None:
    assert name_classes(["c10", "c9", "B", "a"], Notes()).classes == ("a", "B", "c9", "c10")


def test_renaming_takes_labels_as_they_lie_or_as_they_read() -> None:
    naming = name_classes(
        ["n01440764", "garden_roses", "7"], Notes(), given={"n01440764": "tench", "Garden Roses": "rose"}
    )
    assert naming.classes == ("7", "rose", "tench")
    assert naming.index.tolist() == [2, 1, 0]


def test_null_leaves_a_class_out_and_two_labels_can_be_one_class() -> None:
    notes = Notes()
    naming = name_classes(["junk", "cat", "kitten"], notes, given={"junk": None, "kitten": "cat"})
    assert (naming.classes, naming.index.tolist(), notes.lines()) == (("cat",), [-1, 0, 0], [])


def test_spellings_that_become_one_class_are_named() -> None:
    notes = Notes()
    naming = name_classes(["sea lion", "Sea_Lion", "sea_lion"], notes)
    assert (naming.classes, naming.index.tolist()) == (("Sea Lion",), [0, 0, 0])
    text = "\n".join(notes.lines())
    assert "'sea lion' and 'sea_lion'" in text
    assert "'Sea Lion' and 'sea lion'" in text


def test_the_sources_order_and_names_stand() -> None:
    naming = name_classes(["1", "0"], Notes(), known={"0": "zebra", "1": "ant"}, order=["zebra", "ant", "bee"])
    assert (naming.classes, naming.index.tolist()) == (("zebra", "ant", "bee"), [1, 0])


def test_names_that_say_nothing_and_keys_without_a_class_are_noted() -> None:
    notes = Notes()
    name_classes(["n01440764", "3", "cat"], notes, given={"dgo": "dog"})
    text = "\n".join(notes.lines())
    assert "2 class names say nothing to a model (3, n01440764)" in text
    assert "1 keys of classes: name no class: dgo" in text


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(SemscaleError, match="empty name"):
        name_classes(["_"], Notes())
    assert name_classes(["_", "b"], Notes(), given={"_": "blank"}).classes == ("b", "blank")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("c.txt", "airplane\nautomobile\n\n", ({"0": "airplane", "1": "automobile"}, ["airplane", "automobile"])),
        ("c.json", json.dumps({"3": "cat", "x": None}), ({"3": "cat", "x": None}, None)),
        ("c.yaml", "3: cat\n4: 5\n", ({"3": "cat", "4": "5"}, None)),
        ("c.yml", "[a, b]", ({"0": "a", "1": "b"}, ["a", "b"])),
    ],
)
def test_files_with_names(tmp_path: Path, name: str, text: str, expected: Any) -> None:
    (tmp_path / name).write_text(text)
    assert read_class_map(str(tmp_path / name)) == expected


@pytest.mark.parametrize("text", ["{a: [1]}", "just a text", "{broken", "[null]"])
def test_files_with_something_else_are_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "names.yaml"
    path.write_text(text)
    with pytest.raises(SemscaleError, match="file with class names") as caught:
        read_class_map(str(path))
    assert str(path) in str(caught.value)


def test_a_list_states_all_classes_with_images_or_without() -> None:
    given, order = read_class_map(["cat", "dog", "emu"])
    assert name_classes(["2", "0"], Notes(), given=given, order=order).classes == ("cat", "dog", "emu")
