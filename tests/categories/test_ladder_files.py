"""Ladder files: the round trip, and the location of every mistake."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semscale.categories.ladder_builder import LadderSpec, build_ladder
from semscale.categories.ladder_files import parse_ladder, read_ladder
from semscale.common.errors import SemscaleError

FILE: dict[str, Any] = {
    "dataset": "pets",
    "classes": ["cat", "dog"],
    "steps": [
        {"n_categories": 2, "categories": {"cat": ["cat"], "dog": ["dog"]}},
        {"n_categories": 5, "categories": {"dog": ["Hund", "dog", "chien"], "cat": ["cat", "Katze"]}},
    ],
}


def test_a_saved_ladder_is_loaded_unchanged(tmp_path: Path) -> None:
    ladder = build_ladder(LadderSpec("pets", ["sheep", "Żubr"], "animal", "templates-fixed"), order=3)
    ladder.save(tmp_path / "new folder" / "ladder.json")
    loaded = read_ladder(tmp_path / "new folder" / "ladder.json")
    assert loaded == ladder
    assert loaded.digest == ladder.digest


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps(FILE), encoding="utf-8-sig")
    assert read_ladder(tmp_path / "x.json").classes == ("cat", "dog")


@given(
    classes=st.lists(st.text("abcdefgh xyzéß'-", min_size=3, max_size=8), min_size=2, max_size=5),
    steps=st.integers(1, 12),
    order=st.integers(0, 4),
)
def test_any_ladder_survives_json(classes: list[str], steps: int, order: int) -> None:
    try:
        ladder = build_ladder(LadderSpec("demo", classes, "thing", "templates", steps), order=order)
    except SemscaleError:
        return
    assert parse_ladder(json.loads(json.dumps(ladder.to_json())), "ladder") == ladder
    flat = ladder.flatten()
    assert len(set(flat.texts)) == len(flat.texts) == flat.step_ends[-1] == ladder.steps[-1].n_categories


def test_the_digest_is_of_the_content_and_not_of_the_provenance() -> None:
    ladder = parse_ladder(FILE, "ladder")
    with_provenance = copy.deepcopy(FILE) | {"provenance": {"cat": ["a", "b"], "dog": ["c", "d", "e"]}}
    assert parse_ladder(with_provenance, "ladder").digest == ladder.digest
    changed = copy.deepcopy(FILE)
    changed["steps"][1]["categories"]["cat"][1] = "katze"
    assert parse_ladder(changed, "ladder").digest != ladder.digest


def test_a_foreign_file_needs_only_the_keys_of_the_format() -> None:
    ladder = parse_ladder(FILE, "ladder")
    assert (ladder.strategy, ladder.order, ladder.scales) == ("file", 0, [1, 3])
    assert ladder.steps[1].short_classes == ("cat",)
    # new texts come in the order of the classes, whatever the order of the keys
    assert ladder.flatten().texts == ["cat", "dog", "Katze", "Hund", "chien"]
    assert ladder.flatten().class_index.tolist() == [0, 1, 0, 1, 1]


def broken(path: list[str | int], value: object) -> dict[str, Any]:
    content = copy.deepcopy(FILE)
    parent: Any = content
    for key in path[:-1]:
        parent = parent[key]
    if value is KeyError:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "message", "location"),
    [
        (["steps", 1, "categories", "cat"], ["Katze", "chat"], "not nested", "step 2 of 2"),
        (["steps", 1, "n_categories"], 6, "n_categories", "step 2 of 2"),
        (["steps", 0, "n_categories"], "two", "valid integer", "step 1 of 2.n_categories"),
        (["steps", 1, "scale"], 1, "must increase", "step 2 of 2"),
        (["steps", 1], FILE["steps"][0], "adds no category", "step 2 of 2"),
        (["steps", 1, "categories", "cat"], ["cat", "DOG"], "two classes", "step 2 of 2"),
        (["steps", 1, "categories", "cat"], ["cat", "_cat"], "same category twice", "step 2 of 2"),
        (["steps", 1, "categories", "cat"], ["cat", " "], "category is empty", "step 2 of 2"),
        (["steps", 0, "categories", "cat"], [], "no category", "step 1 of 2"),
        (["steps", 0, "categories", "cat"], "cat", "valid list", "step 1 of 2.categories.cat"),
        (["steps", 1, "categories", "cow"], ["cow"], "not those of the ladder", "step 2 of 2"),
        (["steps", 1, "categories"], KeyError, "Field required", "step 2 of 2.categories"),
        (["steps"], [], "at least 1 item", "file.json: steps"),
        (["classes"], ["cat"], "at least two classes", "file.json"),
        (["dataset"], KeyError, "'dataset' is missing", "file.json"),
        (["order"], True, "valid integer", "file.json: order"),
        (["provenance"], {"cat": ["a"]}, "provenance", "file.json"),
    ],
)
def test_a_mistake_is_named_with_its_location(
    path: list[str | int], value: object, message: str, location: str
) -> None:
    with pytest.raises(SemscaleError, match=message) as caught:
        parse_ladder(broken(path, value), "file.json")
    assert caught.value.where is not None
    assert "file.json" in caught.value.where
    assert location in caught.value.where


def test_files_that_are_not_ladders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SemscaleError, match="cannot read"):
        read_ladder(tmp_path / "missing.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(SemscaleError, match="not JSON"):
        read_ladder(tmp_path / "bad.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(SemscaleError, match="valid dictionary"):
        read_ladder(tmp_path / "list.json")
