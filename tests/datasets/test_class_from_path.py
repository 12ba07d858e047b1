"""Class labels from paths: rules for file names, folders, splits."""

from __future__ import annotations

import pytest

from semscale.common.errors import SemscaleError
from semscale.datasets.class_from_path import OTHER_SPLIT, choose_split, compile_rule, folder_labels, rule_labels
from semscale.datasets.dataset import ListingWarnings


@pytest.mark.parametrize(
    ("rule", "path", "label"),
    [
        ("{class}_{number}.jpg", "flowers/water_lily_00012.JPG", "water_lily"),
        ("{class}_{number}.jpg", "flowers/water_lily_x.jpg", None),
        ("{class}-*", "a/b/cat-1-2.png", "cat-1"),
        ("{class}/{x}/*", "root/cat/2020/1.png", "cat"),
        ("{class}/{class}_*", "root/cat/cat_1.png", "cat"),
        ("{class}/{class}_*", "root/cat/dog_1.png", None),
        (r"(?P<class>[a-z]+)\d*/[^/]+$", "x/cat12/1.png", "cat"),
        (r"^(?P<class>\w*?)_", "_1.png", None),
        ("{class}.{ext}", "a.b.png", "a.b"),
        ("[{class}].png", "[x].png", "x"),
    ],
)
def test_rules(rule: str, path: str, label: str | None) -> None:
    assert compile_rule(rule)(path) == label


@pytest.mark.parametrize(("rule", "words"), [("{name}.jpg", "does not mark the class"), ("(?P<class>[", "expression")])
def test_invalid_rules(rule: str, words: str) -> None:
    with pytest.raises(SemscaleError, match=words):
        compile_rule(rule)


def by_folder(
    paths: list[str], *, strip: bool = False, split: str | None = None
) -> tuple[list[str | None], ListingWarnings]:
    notes = ListingWarnings()
    label_of = folder_labels(lambda: paths, split, notes, "here", strip=strip)
    return [label_of(path) for path in paths], notes


@pytest.mark.parametrize(
    ("paths", "strip", "labels"),
    [
        (["a/1", "a/deep/2", "b/3", "4"], False, ["a", "a", "b", None]),
        (["top/in/a/1", "top/in/b/2", "top/in/a/x/3"], True, ["a", "b", "a"]),
        (["top/a1/1", "top/a2/2"], True, ["a1", "a2"]),
        (["top/a/1", "top/2"], True, ["a", None]),
    ],
)
def test_the_folder_is_the_class_below_those_that_all_share(paths: list[str], strip: bool, labels: list[str]) -> None:
    assert by_folder(paths, strip=strip)[0] == labels


@pytest.mark.parametrize(
    ("split", "labels"),
    [
        (None, [OTHER_SPLIT, "b", OTHER_SPLIT, None]),
        ("train", ["a", OTHER_SPLIT, OTHER_SPLIT, OTHER_SPLIT]),
        ("val", [OTHER_SPLIT, OTHER_SPLIT, "c", OTHER_SPLIT]),
        ("all", ["a", "b", "c", None]),
    ],
)
def test_nested_splits(split: str | None, labels: list[str | None]) -> None:
    found, notes = by_folder(["train/a/1", "test/b/2", "validation/c/3", "test/4"], split=split)
    assert found == labels
    assert bool(notes.lines()) == (split is None)


@pytest.mark.parametrize("strip", [False, True])
@pytest.mark.parametrize(
    ("tops", "split", "labels"),
    [
        (["training_set/training_set", "test_set/test_set"], None, [OTHER_SPLIT, "cat"]),
        (["train2017", "val2017"], "train", ["cat", OTHER_SPLIT]),
        (["seg_train/seg_train", "seg_test", "seg_pred"], "test", [OTHER_SPLIT, "cat", OTHER_SPLIT]),
        (["train", "test", "new pictures"], "new pictures", [OTHER_SPLIT, OTHER_SPLIT, "cat"]),
        (["train", "car", "boat"], None, ["train", "car", "boat"]),
        (["test tube", "test strip"], None, ["test tube", "test strip"]),
    ],
)
def test_names_of_splits(tops: list[str], split: str | None, labels: list[str], strip: bool) -> None:
    assert by_folder([f"{top}/cat/1.png" for top in tops], split=split, strip=strip)[0] == labels


@pytest.mark.parametrize("tops", [["train", "test", "docs"], ["seg_train", "seg_test", "seg_pred"]])
@pytest.mark.parametrize("split", [None, "all"])
def test_splits_beside_other_folders_are_rejected(tops: list[str], split: str | None) -> None:
    with pytest.raises(SemscaleError, match="would be classes") as caught:
        by_folder([f"{top}/cat/1.png" for top in tops], split=split)
    assert caught.value.hint is not None
    assert f"split: {min(top for top in tops if 'te' in top)}" in caught.value.hint


def test_a_missing_split_is_an_error() -> None:
    with pytest.raises(SemscaleError, match="no splits"):
        by_folder(["a/1", "b/2"], split="test")
    with pytest.raises(SemscaleError, match="no such split"):
        by_folder(["train/a/1", "test/b/2"], split="val")


def test_choice_prefers_test_then_validation_then_the_first() -> None:
    assert choose_split(["train", "Test"], None, ListingWarnings(), "") == "Test"
    assert choose_split(["train", "dev"], None, ListingWarnings(), "") == "dev"
    assert choose_split(["part1", "part2"], None, ListingWarnings(), "") == "part1"
    assert choose_split(["train", "validation"], "val", ListingWarnings(), "") == "validation"


def test_a_rule_is_limited_to_a_requested_split() -> None:
    label_of = rule_labels("{class}_*", "train")
    assert [label_of(path) for path in ("training/a_1", "test/b_2")] == ["a", OTHER_SPLIT]
