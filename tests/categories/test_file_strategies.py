"""Strategies from files: descriptors, and ladder files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from semscale.categories import LadderSpec, build_ladder, find_strategy
from semscale.common.errors import SemscaleError


def write(folder: Path, content: object) -> str:
    path = folder / "texts.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


def test_descriptors_are_appended_to_the_name_unless_they_name_the_class(tmp_path: Path) -> None:
    content = {"Garden_Rose": ["red petals", "a garden rose in bloom"], "hen": ["two hens", "made of henna"], "ox": []}
    made = find_strategy("descriptors")
    path = write(tmp_path, content)
    assert [category.text for category in made("garden rose", "", path=path)] == [
        "garden rose",
        "garden rose, red petals",
        "a garden rose in bloom",
    ]
    assert [category.text for category in made("hen", "", path=path)] == ["hen", "two hens", "hen, made of henna"]
    assert made("hen", "", path=path)[2].provenance == "texts.json: made of henna"


def test_repeated_descriptors_are_removed_and_reported(tmp_path: Path) -> None:
    path = write(tmp_path, {"cat": ["fur", "Fur", "paws"], "dog": ["fur", "tail"]})
    ladder = build_ladder(LadderSpec("d", ["cat", "dog"], "", "descriptors", steps=3, options={"path": path}))
    assert ladder.steps[-1].categories == {
        "cat": ("cat", "cat, fur", "cat, paws"),
        "dog": ("dog", "dog, fur", "dog, tail"),
    }
    assert ladder.notes == ("texts left out because their class has them already: cat 1",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"cat": ["fur"]}, "lacks a class"),
        ({"cat": ["fur"], "dog": "tail"}, "file is invalid"),
        ({"cat": ["fur"], "dog": [" "]}, "file is invalid"),
        ([1], "file is invalid"),
    ],
)
def test_descriptors_of_another_form_are_refused(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(SemscaleError, match=message):
        build_ladder(
            LadderSpec("d", ["cat", "dog"], "", "descriptors", steps=2, options={"path": write(tmp_path, content)})
        )


def test_a_descriptors_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SemscaleError, match="cannot read"):
        find_strategy("descriptors")("cat", "", path=tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{", encoding="utf-8")
    with pytest.raises(SemscaleError, match="not JSON"):
        find_strategy("descriptors")("cat", "", path=str(tmp_path / "bad.json"))
    with pytest.raises(SemscaleError, match="needs the option 'path'"):
        find_strategy("descriptors")("cat", "")


@pytest.mark.parametrize("strategy", ["templates", "templates-fixed", "image-picture"])
def test_a_ladder_file_reproduces_its_sets(tmp_path: Path, strategy: str) -> None:
    real = build_ladder(LadderSpec("d", ["sheep", "Wolf"], "animal", strategy, scales=[1, 2, 5, 8]))
    real.save(tmp_path / "ladder.json")
    rebuilt = build_ladder(
        LadderSpec(
            "other", ["wolf", "SHEEP"], "", "file", scales=[1, 2, 5, 8], options={"path": str(tmp_path / "ladder.json")}
        )
    )
    assert rebuilt.classes == ("wolf", "SHEEP")
    for step, other in zip(rebuilt.steps, real.steps, strict=True):
        assert step.categories == {"wolf": other.categories["Wolf"], "SHEEP": other.categories["sheep"]}


def test_a_ladder_file_is_read_in_the_order_of_its_steps(tmp_path: Path) -> None:
    content = {
        "dataset": "pets",
        "classes": ["cat", "dog"],
        "steps": [
            {"n_categories": 2, "categories": {"cat": ["cat"], "dog": ["dog"]}},
            {"n_categories": 5, "categories": {"cat": ["cat", "Katze"], "dog": ["Hund", "dog", "chien"]}},
        ],
    }
    ladder = build_ladder(
        LadderSpec("d", ["cat", "dog"], "", "file", steps=3, options={"path": write(tmp_path, content)})
    )
    assert ladder.steps[1].categories == {"cat": ("cat", "Katze"), "dog": ("dog", "Hund")}
    assert ladder.steps[2].short_classes == ("cat",)
    with pytest.raises(SemscaleError, match="not those of the dataset") as caught:
        build_ladder(LadderSpec("d", ["cat", "cow"], "", "file", options={"path": write(tmp_path, content)}))
    assert caught.value.found == "'cow', 'dog'"
