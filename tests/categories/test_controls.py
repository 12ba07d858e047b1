"""Controls: as many categories per class as the controlled strategy, at every step and order."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from semscale.categories import Ladder, LadderSpec, build_ladder, control_names, find_strategy
from semscale.categories.ladder_files import parse_ladder, read_ladder
from semscale.common.errors import SemscaleError
from semscale.scoring import AGGREGATIONS, LadderInputs, ScoreOptions, score_ladder

CLASSES = ["wolf", "sheep", "cross", "fire_truck", "random"]  # sheep is its own plural


def build(strategy: str, order: int = 0, **options: object) -> Ladder:
    return build_ladder(LadderSpec("demo", CLASSES, "thing", strategy, options=options), order=order)


@pytest.mark.parametrize("name", control_names())
@pytest.mark.parametrize("order", [0, 3])
@pytest.mark.parametrize("of", ["templates", "templates-fixed"])
def test_counts_are_those_of_the_controlled_strategy_in_every_class_at_every_step(
    name: str, order: int, of: str
) -> None:
    real, made = build(of, order), build(name, order, of=of)
    assert made.scales == real.scales
    for step, other in zip(made.steps, real.steps, strict=True):
        assert step.n_categories == other.n_categories
        assert {c: len(texts) for c, texts in step.categories.items()} == {
            c: len(texts) for c, texts in other.categories.items()
        }
    assert made.steps[0] == real.steps[0], "the class names alone are the same in all arms"
    assert parse_ladder(made.to_json(), "ladder") == made
    assert build(name, order, of=of) == made


@pytest.mark.parametrize("name", sorted(set(control_names()) - {"duplicates"}))
def test_another_order_is_another_draw(name: str) -> None:
    assert len({build(name, order).digest for order in range(4)}) == 4


def test_duplicates_are_one_text_for_the_kernel_and_move_nothing_to_the_last_bit(tmp_path: Path) -> None:
    ladder = build_ladder(
        LadderSpec("demo", CLASSES, "thing", "duplicates", scales="exponential", options={"of": "prompts"})
    )
    assert ladder.steps[-1].categories["wolf"] == ("wolf",) * 16
    assert [step.n_categories for step in ladder.steps] == [5, 10, 20, 40, 80]
    flat = ladder.flatten()
    assert flat.texts == CLASSES
    assert flat.step_ends.tolist() == [5] * 5
    ladder.save(tmp_path / "ladder.json")
    assert read_ladder(tmp_path / "ladder.json") == ladder
    rng = np.random.default_rng(0)
    images, texts = (rng.standard_normal((rows, 33)).astype(np.float32) for rows in (500, 5))
    true = rng.integers(0, 5, 500).astype(np.int32)
    for aggregation in AGGREGATIONS:
        inputs = LadderInputs(images, texts, flat.class_index, flat.step_ends, true)
        scores = score_ladder(inputs, aggregation, ScoreOptions(confidence=True))
        for column in (scores.predicted_category, scores.true_rank, scores.margin, scores.confidence):
            assert all(column[:, k].tobytes() == column[:, 0].tobytes() for k in range(5))


def test_repetitions_are_refused_in_a_file_that_does_not_declare_them() -> None:
    content = build("duplicates").to_json()
    del content["repeats"]
    with pytest.raises(SemscaleError, match="same category twice"):
        parse_ladder(content, "file.json")
    with pytest.raises(SemscaleError, match="valid boolean"):
        parse_ladder(content | {"repeats": "yes"}, "file.json")


def test_a_file_that_removes_a_repetition_is_not_nested() -> None:
    content = {
        "dataset": "d",
        "classes": ["a", "b"],
        "repeats": True,
        "steps": [
            {"n_categories": 3, "categories": {"a": ["a", "a"], "b": ["b"]}},
            {"n_categories": 4, "categories": {"a": ["a"], "b": ["b", "b", "b"]}},
        ],
    }
    with pytest.raises(SemscaleError, match="not nested"):
        parse_ladder(content, "file.json")


def test_random_texts_keep_the_class_name_and_avoid_the_words_of_class_names() -> None:
    words = build("random-words").steps[-1].categories
    noise = build("random-characters").steps[-1].categories
    for name in CLASSES:
        for text in (*words[name][1:], *noise[name][1:]):
            assert text.startswith(f"{name}, ")
        assert len(set(words[name])) == len(set(noise[name])) == 12
    assert not any("random" in text.removeprefix("random, ") for texts in words.values() for text in texts[1:])


@pytest.mark.parametrize("name", ["swapped", "shuffled"])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_exchanged_texts_are_those_of_the_real_arm_at_every_step(name: str, order: int) -> None:
    real, made = build("templates-fixed", order), build(name, order, of="templates-fixed")
    for step, other in zip(made.steps, real.steps, strict=True):
        assert Counter(t for texts in step.categories.values() for t in texts) == Counter(
            t for texts in other.categories.values() for t in texts
        )


def test_swapped_classes_have_the_equivalents_of_one_other_class() -> None:
    for order in range(3):
        real, made = build("templates", order).steps[-1].categories, build("swapped", order).steps[-1].categories
        owners = {text: name for name, texts in real.items() for text in texts}
        donor = {name: {owners[text] for text in texts[1:]} for name, texts in made.items()}
        assert all(len(donors) == 1 for donors in donor.values())
        assert all(name not in donors for name, donors in donor.items())
        assert set().union(*donor.values()) == set(CLASSES)


def test_a_position_with_a_category_of_one_class_only_is_left_empty_and_noted() -> None:
    # only "shirt" has a different plural; the positions of the others are empty
    classes = ["shorts", "jeans", "shirt"]
    ladder = build_ladder(
        LadderSpec("d", classes, "clothing", "swapped", scales=[1, 2, 3], options={"of": "templates-fixed"})
    )
    assert ladder.scales == [1, 3], "a step that adds nothing is no step"
    assert any("positions stay empty" in note for note in ladder.notes)
    assert all(len(texts) == 2 for texts in ladder.steps[-1].categories.values())


def test_shuffled_mixes_many_classes() -> None:
    real, made = build("templates").steps[-1].categories, build("shuffled").steps[-1].categories
    owners = {text: name for name, texts in real.items() for text in texts}
    assert len({owners[text] for text in made["wolf"][1:]}) > 2


def test_controls_take_the_options_of_what_they_control() -> None:
    inner = {"templates": ["a {c}", "the {c}"]}
    ladder = build_ladder(
        LadderSpec(
            "d",
            CLASSES,
            "thing",
            "duplicates",
            steps=3,
            options={"of": "custom", "of_options": inner},
            label="dup-custom",
        )
    )
    assert ladder.strategy == "dup-custom"
    assert ladder.steps[-1].n_categories == 15


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"of": "swapped"}, "control a control"),
        ({"of": "nothing"}, "unknown strategy"),
        ({"of": 3}, "'of' is invalid"),
        ({"of_options": {"templates": []}}, "does not take this option"),
        ({"of_options": [1]}, "'of_options' is invalid"),
        ({"off": "templates"}, "does not take this option"),
    ],
)
def test_wrong_options_of_a_control_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(SemscaleError, match=message):
        build("duplicates", **options)


def test_a_control_alone_is_refused() -> None:
    with pytest.raises(SemscaleError, match="all classes"):
        find_strategy("swapped")("dog", "animal")
