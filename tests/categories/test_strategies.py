"""The published template strategies, and the registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from semscale.categories import (
    Category,
    LadderSpec,
    build_ladder,
    context_strategy,
    control_names,
    find_strategy,
    strategies,
    strategy,
    strategy_description,
    strategy_names,
    strategy_registry,
)
from semscale.categories.plurals import plural
from semscale.common.errors import SemscaleError


def texts(name: str, class_name: str, domain: str) -> list[str]:
    return [category.text for category in find_strategy(name)(class_name, domain)]


def test_templates_are_the_published_ones() -> None:
    # one class of the published Pests12 ladder, in its order
    assert texts("templates", "ant", "pest") == [
        "ant",
        "ants",
        "Large ant",
        "Large ants",
        "Small ant",
        "Small ants",
        "Medium ant",
        "Medium ants",
        "Pest ant",
        "Pest ants",
        "Tiny ant",
        "Tiny ants",
    ]


def test_templates_have_naive_plurals_and_the_class_name_unchanged() -> None:
    made = texts("templates", "black Dress_x", "dark matter")
    assert made[1] == "black Dress_xs"
    assert made[8] == "Dark matter black Dress_x"


def test_fixed_templates_differ_only_in_the_plurals() -> None:
    naive, fixed = texts("templates", "baked potato", "food"), texts("templates-fixed", "baked potato", "food")
    assert fixed[0::2] == naive[0::2]
    assert fixed[1::2] == [text.removesuffix("s") + "es" for text in naive[1::2]]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cross", "crosses"),
        ("bus", "buses"),
        ("cactus", "cactuses"),
        ("Mouse", "Mice"),
        ("garden_rose", "garden_roses"),
        ("German shepherd", "German shepherds"),
        ("t-shirt", "t-shirts"),
        ("specimen", "specimens"),
        ("golf", "golfs"),
        ("two", "twos"),
        ("zero", "zeros"),
        ("7", "7s"),
        ("SUV", "SUVs"),
        ("wolf ", "wolves "),
    ],
)
def test_real_plurals(name: str, expected: str) -> None:
    assert plural(name) == expected


@pytest.mark.parametrize(
    "name", ["shorts", "scissors", "sheep", "ants", "daisies", "garden_roses", "geese", "people", "Glasses", "buses"]
)
def test_plurals_are_unchanged(name: str) -> None:
    assert plural(name) == name


@pytest.mark.parametrize("name", ["templates", "templates-fixed"])
def test_a_blank_domain_is_refused(name: str) -> None:
    with pytest.raises(SemscaleError, match="needs the domain"):
        find_strategy(name)("ant", "  ")


def test_every_strategy_has_a_description_and_its_texts_a_provenance() -> None:
    assert set(strategy_names()) == {
        *("templates", "templates-fixed", "image-picture", "custom", "prompts", "descriptors", "file"),
        *("wordnet", "wordnet-hyponyms", "wordnet-hypernyms", "wordnet-languages"),
        *("duplicates", "random-words", "random-characters", "swapped", "shuffled"),
    }
    for name in strategy_names():
        assert strategy_description(name)
        assert strategy_description(name).startswith("Control: ") == (name in control_names())
    made = find_strategy("templates")("ant", "pest")
    assert [category.provenance for category in made[:4]] == ["{c}", "{c}s", "Large {c}", "Large {c}s"]
    assert made[9].provenance == "{domain} {c}s"


def test_the_error_of_an_unknown_strategy_suggests_similar_names() -> None:
    with pytest.raises(SemscaleError) as caught:
        find_strategy("template")
    assert caught.value.hint is not None
    assert "templates" in caught.value.hint


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        strategy("templates")(lambda name, domain: [])


def test_a_context_strategy_has_all_classes_and_may_leave_positions_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy_names()  # discover before the copy is made
    monkeypatch.setattr(strategy_registry, "_strategies", dict(strategy_registry._strategies))

    @context_strategy("ranked", options=("word",))
    def ranked(context: strategy_registry.StrategyContext) -> dict[str, list[Category | None]]:
        word = context.options.get("word", "number")
        return {
            name: [
                Category(name, "{c}"),
                Category(f"{name}, {word} {n}", "rank") if n else None,
                Category(f"my {name}", ""),
            ]
            for n, name in enumerate(reversed(context.classes))
        }

    ladder = build_ladder(LadderSpec("d", ["a", "b"], "", "ranked", 3, options={"word": "no."}))
    assert ladder.classes == ("a", "b")
    assert list(ladder.steps[2].categories) == ["a", "b"]
    assert ladder.steps[2].categories == {"a": ("a", "a, no. 1", "my a"), "b": ("b", "my b")}
    assert ladder.steps[1].short_classes == ("b",)


def test_a_new_file_in_the_package_is_a_new_strategy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shouted.py").write_text(
        "from semscale.categories.strategy_registry import Category, strategy\n"
        "@strategy('shouted')\n"
        "def shouted(class_name, domain):\n"
        "    return [Category(class_name, '{c}'), Category(class_name + '!', '{c}!')]\n"
    )
    monkeypatch.setattr(strategies, "__path__", [*strategies.__path__, str(tmp_path)])
    monkeypatch.setattr(strategy_registry, "_strategies", dict(strategy_registry._strategies))
    strategy_registry._discover.cache_clear()
    try:
        assert texts("shouted", "ant", "pest") == ["ant", "ant!"]
    finally:
        strategy_registry._discover.cache_clear()
