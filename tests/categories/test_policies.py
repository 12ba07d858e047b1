"""Policies of ladders: lists of scales and orders, exhausted classes, shared, repeated and long texts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semscale.categories import Ladder, LadderSpec, build_ladder, build_ladders
from semscale.categories.ladder_builder import CLIP_TOKENS, estimate_tokens
from semscale.categories.ladder_files import parse_ladder
from semscale.common.errors import SemscaleError


@pytest.fixture
def path(tmp_path: Path) -> str:
    target = tmp_path / "texts.json"
    texts = {"cat": ["a cat", "the cat", "one cat"], "dog": ["a dog", "the dog", "one dog", "this dog", "that dog"]}
    target.write_text(json.dumps(texts))
    return str(target)


def custom(classes: list[str], templates: list[str], **options: object) -> Ladder:
    return build_ladder(LadderSpec("d", classes, "thing", "custom", options={"templates": templates}, **options))  # type: ignore[arg-type]


def test_a_list_of_scales_is_not_changed() -> None:
    ladder = build_ladder(LadderSpec("d", ["cat", "dog"], "pet", "templates", scales=[1, 3, 12], steps=1))
    assert ladder.scales == [1, 3, 12]
    assert [step.n_categories for step in ladder.steps] == [2, 6, 24]


@pytest.mark.parametrize("scales", [[], [2, 3], [1, 1], [1, 3, 2], [1, "2"], [1, 2.0], [True, 2], [0, 1]])
def test_scales_that_do_not_start_at_1_and_increase_are_refused(scales: list[int]) -> None:
    with pytest.raises(SemscaleError, match="start at 1 and increase"):
        build_ladder(LadderSpec("d", ["cat", "dog"], "pet", "templates", scales=scales))


def test_a_scale_beyond_the_strategy_is_refused() -> None:
    with pytest.raises(SemscaleError, match="more steps") as caught:
        build_ladder(LadderSpec("d", ["cat", "dog"], "pet", "templates", scales=[1, 13]))
    assert (caught.value.found, caught.value.expected) == ("scales up to 13", "at most 12")


def test_several_orders_are_the_single_ones(path: str) -> None:
    together = build_ladders(
        LadderSpec("d", ["cat", "dog"], "pet", "descriptors", 3, options={"path": path}), orders=(2, 0, 1)
    )
    single = [
        build_ladder(LadderSpec("d", ["cat", "dog"], "pet", "descriptors", 3, options={"path": path}), order=order)
        for order in (2, 0, 1)
    ]
    assert list(together) == single
    assert [ladder.order for ladder in together] == [2, 0, 1]


@pytest.mark.parametrize("orders", [(), (0, 0), (1, -1)])
def test_orders_must_be_different_numbers_from_0(orders: tuple[int, ...]) -> None:
    with pytest.raises(SemscaleError, match="order"):
        build_ladders(LadderSpec("d", ["cat", "dog"], "pet", "templates"), orders=orders)


def test_a_class_that_runs_out_stops_the_ladder_or_stays(path: str) -> None:
    options = {"path": path}
    with pytest.raises(SemscaleError, match="more steps") as caught:
        build_ladder(LadderSpec("d", ["cat", "dog"], "pet", "descriptors", 6, options=options))
    assert caught.value.expected == "at most 4"
    assert caught.value.hint == "cat has no more; short: stay continues without"
    ladder = build_ladder(LadderSpec("d", ["cat", "dog"], "pet", "descriptors", 6, options=options, short="stay"))
    assert [step.n_categories for step in ladder.steps] == [2, 4, 6, 8, 9, 10]
    assert [step.short_classes for step in ladder.steps] == [(), (), (), (), ("cat",), ("cat",)]
    assert ladder.notes == ("fewer than 6 categories at the last step: cat 4",)
    assert parse_ladder(ladder.to_json(), "file") == ladder
    with pytest.raises(SemscaleError, match="more steps"):
        build_ladder(LadderSpec("d", ["cat", "dog"], "pet", "descriptors", 7, options=options, short="stay"))
    with pytest.raises(SemscaleError, match="policy for short"):
        build_ladder(LadderSpec("d", ["cat", "dog"], "pet", "descriptors", options=options, short="go"))  # type: ignore[arg-type]


def test_shared_texts_are_refused_or_dropped_from_both_and_names_stay() -> None:
    classes = ["dog", "large dog", "cat"]
    with pytest.raises(SemscaleError, match="two classes"):
        custom(classes, ["large {c}", "the {c}"], steps=3)
    ladder = custom(classes, ["large {c}", "the {c}"], steps=3, shared="drop")
    assert ladder.steps[-1].categories == {
        "dog": ("dog", "the dog"),
        "large dog": ("large dog", "large large dog", "the large dog"),
        "cat": ("cat", "large cat", "the cat"),
    }
    assert ladder.notes[0] == "texts of several classes, dropped from all: large dog"
    with pytest.raises(SemscaleError, match="policy for shared"):
        custom(classes, ["the {c}"], shared="keep")


def test_a_shared_equivalent_is_dropped_from_both() -> None:
    ladder = custom(["a", "a b"], ["{c} c", "{c} b c"], steps=3, shared="drop")
    assert ladder.steps[-1].categories == {"a": ("a", "a c"), "a b": ("a b", "a b b c")}
    assert ladder.steps[1].n_categories == 3


def test_dropping_is_stable_when_the_ladder_grows() -> None:
    classes, templates = ["a", "b", "a b"], ["{c} b", "x {c}", "{c} y"]
    longer = custom(classes, templates, steps=4, shared="drop")
    for steps in (1, 2, 3):
        assert custom(classes, templates, steps=steps, shared="drop").steps == longer.steps[:steps]


def test_long_texts_are_noted_by_estimate_or_by_a_given_counter() -> None:
    long = "{c} " + "and another word " * 20
    assert any("77 tokens" in note for note in custom(["cat", "dog"], [long], steps=2).notes)
    assert not custom(["cat", "dog"], [long], steps=2, count_tokens=lambda text: len(text.split())).notes
    assert custom(["cat", "dog"], ["a {c}"], steps=2).notes == ()


def test_notes_are_no_part_of_the_digest() -> None:
    long = "{c} " + "and another word " * 20
    noted, quiet = (
        custom(["cat", "dog"], [long], steps=2, count_tokens=count) for count in (lambda t: 99, len_of_words)
    )
    assert noted.notes != quiet.notes
    assert noted.digest == quiet.digest


def len_of_words(text: str) -> int:
    return len(text.split())


@given(st.text(max_size=60))
def test_the_estimate_is_at_least_start_end_and_a_token_for_each_run(text: str) -> None:
    assert estimate_tokens(text) >= 2 + len(text.split())


def test_the_estimate_is_not_below_clips_own_count() -> None:
    tokenizer = pytest.importorskip("open_clip.tokenizer").SimpleTokenizer()
    names = "rhinoceros hovercraft gallinipper axolotl xylophone Ford_F-150 dhokla okapi quokka zygomorphic 7s größe 犬"
    templates = ["a photo of a {}", "Large {}s", "a black-and-white photo of the {}", "{}, which has 4 legs & a tail!"]
    for text in [template.format(name) for name in names.split() for template in templates]:
        assert estimate_tokens(text) >= len(tokenizer.encode(text)) + 2, text
    assert estimate_tokens("a photo of a " + "dog " * 20) < CLIP_TOKENS
