"""Template strategies: the published second family, custom templates, and photo prompts."""

from __future__ import annotations

import pytest

from semscale.categories import LadderSpec, build_ladder, find_strategy
from semscale.categories.plurals import plural
from semscale.categories.strategies.templates import check_template
from semscale.common.errors import SemscaleError

# One or two classes of each published ladder of this family, letter for letter.
PUBLISHED = [
    (
        "flower",
        "tulip",
        "tulip|Image of tulip|Picture of tulip|tulips|Cool tulip|Pretty tulip|Detailed tulip|Image of pretty tulip|"
        "Picture of pretty tulips|Image of tulips",
    ),
    (
        "flower",
        "daisies",
        "daisies|Image of daisies|Picture of daisies|Cool daisies|Pretty daisies|Detailed daisies|"
        "Image of pretty daisies|Picture of pretty daisies",
    ),
    (
        "fruit",
        "Cherry",
        "Cherry|Image of Cherry|Picture of Cherry|Cherries|Cool Cherry|Pretty Cherry|Detailed Cherry|"
        "Image of pretty Cherry|Picture of pretty Cherries|Image of Cherries",
    ),
    (
        "food",
        "Taquito",
        "Taquito|Image of Taquito|Picture of Taquito|Taquitos|Appetizing Taquito|Cool Taquito|Food Taquito|"
        "Fresh Taquito|Picture of Taquitos|Delicious Taquito",
    ),
    (
        "foods",
        "Fries",
        "Fries|Image of Fries|Picture of Fries|French Fries|Appetizing Fries|Cool Fries|Food Fries|Fresh Fries|"
        "Delicious Fries",
    ),
    (
        "Sports",
        "golf_ball",
        "golf_ball|Image of golf_ball|Picture of golf_ball|golf_balls|Picture of the golf_balls|Image of golf_balls|"
        "Cool golf_ball",
    ),
    (
        "vehicle",
        "bus",
        "bus|image of bus|picture of bus|buses|cool bus|classic bus|detailed bus|reliable bus|moving bus|"
        "functional bus",
    ),
    (
        "vehicle",
        "hovercraft",
        "hovercraft|image of hovercraft|picture of hovercraft|hovercrafts|cool hovercraft|classic hovercraft|"
        "detailed hovercraft|reliable hovercraft|moving hovercraft|functional hovercraft",
    ),
    ("weather", "dew", "dew|Image of dew|Picture of dew|Weather dew|Cool dew|Detailed dew|Pretty dew"),
]


def texts(name: str, class_name: str, domain: str, **options: object) -> list[str]:
    return [category.text for category in find_strategy(name)(class_name, domain, **options)]


@pytest.mark.parametrize(("domain", "name", "published"), PUBLISHED)
def test_image_picture_is_the_published_family(domain: str, name: str, published: str) -> None:
    assert list(dict.fromkeys(texts("image-picture", name, domain))) == published.split("|")


def test_image_picture_leaves_the_position_of_a_plural_name_empty() -> None:
    ladder = build_ladder(LadderSpec("d", ["tulip", "daisies"], "flower", "image-picture", steps=10))
    assert [step.n_categories for step in ladder.steps] == [2, 4, 6, 7, 9, 11, 13, 15, 17, 18]


def test_prompts_are_many_and_all_different() -> None:
    made = texts("prompts", "dog", "animal")
    assert len(made) == len(set(made)) >= 25
    assert made[0] == "dog"
    assert all("dog" in text for text in made)
    assert build_ladder(LadderSpec("d", ["cat", "dog"], "", "prompts", steps=29)).steps[-1].n_categories == 58


def test_custom_templates_fill_all_fields() -> None:
    made = texts("custom", "fire_truck", " vehicle ", templates=["a {c}: {domain}", "{C}!", "{cs}", "{{{c}}}", "{c}"])
    assert made == ["fire_truck", "a fire_truck: vehicle", "Fire_truck!", "fire_trucks", "{fire_truck}", "fire_truck"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("a {name}", "unknown field"),
        ("a {c!r}", "unknown field"),
        ("a {c:>30}", "unknown field"),
        ("a {c.__class__}", "unknown field"),
        ("a {}", "unknown field"),
        ("a {c", "invalid template"),
        ("a photo", "does not name the class"),
        ("a {domain}", "does not name the class"),
        ("", "does not name the class"),
    ],
)
def test_a_template_with_other_fields_is_refused(template: str, message: str) -> None:
    with pytest.raises(SemscaleError, match=message) as caught:
        check_template(template, "demo")
    assert caught.value.where == "demo"
    with pytest.raises(SemscaleError, match=message):
        texts("custom", "dog", "animal", templates=["a {c}", template])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs the option 'templates'"),
        ({"templates": "a {c}"}, "is invalid"),
        ({"templates": ["a {c}", 3]}, "is invalid"),
        ({"templates": []}, "at least 1 item"),
        ({"template": ["a {c}"]}, "does not take this option"),
    ],
)
def test_custom_templates_must_be_a_list_of_texts(options: dict[str, object], message: str) -> None:
    with pytest.raises(SemscaleError, match=message):
        texts("custom", "dog", "animal", **options)


def test_a_template_that_needs_the_domain_says_so() -> None:
    assert texts("custom", "dog", " ", templates=["a {c}"]) == ["dog", "a dog"]
    with pytest.raises(SemscaleError, match="needs the domain"):
        texts("custom", "dog", " ", templates=["a {c}, a {domain}"])


def test_an_option_of_a_strategy_without_options_is_refused() -> None:
    with pytest.raises(SemscaleError, match="does not take this option") as caught:
        build_ladder(LadderSpec("d", ["cat", "dog"], "animal", "templates", options={"path": "x"}))
    assert caught.value.expected == "no options"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Cherry", "Cherries"), ("Boy", "Boys"), ("Taquito", "Taquitos"), ("Wild Berry", "Wild Berries")],
)
def test_plurals_of_capitalised_names(name: str, expected: str) -> None:
    assert plural(name) == expected
